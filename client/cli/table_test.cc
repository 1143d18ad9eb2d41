#include "client/cli/table.h"

#include <limits>
#include <sstream>

#include <gtest/gtest.h>

#include "client/cli/screen.h"

namespace sae::cli {
namespace {

TEST(Table, ColumnsLineUpAlsoWithNonAsciiText) {
  Table table({{"NAME"}, {"N", Table::Align::kRight}, {"NOTE"}});
  table.Add({"a", "1", "é"});
  table.Add({"λ=0.5…", "1000", "x"});
  table.Add({"b", "20"});
  EXPECT_EQ(table.Text(),
            "NAME       N  NOTE\n"
            "a          1  é\n"
            "λ=0.5…  1000  x\n"
            "b         20\n");
}

TEST(Table, Numbers) {
  EXPECT_EQ(Number(0.123456), "0.1235");
  EXPECT_EQ(Number(0.00123456), "0.0012");
  EXPECT_EQ(Number(12.3456), "12.35");
  EXPECT_EQ(Number(1234.56), "1235");
  EXPECT_EQ(Number(0), "0");
  EXPECT_EQ(Number(1.5e-7), "1.5e-07");
  EXPECT_EQ(Number(-2.5), "-2.500");
  EXPECT_EQ(Number(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(Percent(0.00418), "0.42%");
  EXPECT_EQ(Percent(0.35), "35.0%");
  EXPECT_EQ(Percent(std::numeric_limits<double>::infinity()), "-");
  EXPECT_EQ(Count(950), "950");
  EXPECT_EQ(Count(12345), "12.3k");
  EXPECT_EQ(Count(9999), "10.0k");
  EXPECT_EQ(Count(4.5e6), "4.50M");
  EXPECT_EQ(Count(999.6), "1.00k");
  EXPECT_EQ(Bytes(512), "512 B");
  EXPECT_EQ(Bytes(1.5 * 1024 * 1024), "1.5 MiB");
  EXPECT_EQ(Span(absl::Seconds(8)), "8s");
  EXPECT_EQ(Span(absl::Seconds(125)), "2m05s");
  EXPECT_EQ(Span(absl::Minutes(200)), "3h20m");
  EXPECT_EQ(Span(absl::Hours(99)), "4d03h");
  EXPECT_EQ(Span(absl::InfiniteDuration()), "-");
}

TEST(Table, BarsAndShortening) {
  EXPECT_EQ(Bar(0.5, 10), "[#####.....]");
  EXPECT_EQ(Bar(1.7, 4), "[####]");
  EXPECT_EQ(Bar(std::numeric_limits<double>::quiet_NaN(), 4), "[....]");
  EXPECT_EQ(Shorten("abcdef", 4), "abc…");
  EXPECT_EQ(Shorten("λλλλ", 3), "λλ…");
  EXPECT_EQ(Shorten("abc", 3), "abc");
}

TEST(Screen, RedrawsItsBlockBelowPermanentLines) {
  std::ostringstream out;
  Screen screen(out, true);
  screen.Draw({"one", "two"});
  screen.Draw({"one", "two"});  // the same: nothing
  screen.Print({"notice"});
  screen.Draw({"three"});
  EXPECT_EQ(out.str(),
            "one\ntwo\n"
            "\x1b[2A\r\x1b[Jnotice\none\ntwo\n"
            "\x1b[2A\r\x1b[Jthree\n");
}

TEST(Screen, WithoutATerminalThereAreNoEscapes) {
  std::ostringstream out;
  Screen screen(out, false);
  screen.Draw({"frame"});
  screen.Print({"line"});
  EXPECT_EQ(out.str(), "line\n");
}

}  // namespace
}  // namespace sae::cli
