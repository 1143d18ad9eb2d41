#include "worker/agent/log_filter.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/log_shipper.h"

namespace saeloom::agent {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::Time At(const std::string& time) {
  absl::Time out;
  std::string error;
  EXPECT_TRUE(absl::ParseTime("%Y-%m-%d %H:%M:%E*S", time, absl::LocalTimeZone(), &out, &error))
      << error;
  return out;
}

TEST(LogFilter, TimesOfLines) {
  EXPECT_EQ(TimeOfLine("2026-01-31T12:34:56.789 info [r] x"), At("2026-01-31 12:34:56.789"));
  for (const char* line : {"", "hello", "2026-01-31", "2026-01-31T12:34:xx.789 info",
                           "    at 2026-01-31T12:34:56.789"})
    EXPECT_FALSE(TimeOfLine(line).has_value()) << line;
}

TEST(LogFilter, SinceKeepsWhatBelongsToALine) {
  auto filter = LogFilter::Make(At("2026-01-01 00:00:10"), "").value();
  EXPECT_THAT(filter.Add("no time\n2026-01-01T00:00:09.999 info a\n  of a\n"
                         "2026-01-01T00:00:10.000 info b\n  of b\n2026-01-01T00:00:11.0"),
              ElementsAre("2026-01-01T00:00:10.000 info b", "  of b"));
  EXPECT_THAT(filter.Add("00 info c\n"), ElementsAre("2026-01-01T00:00:11.000 info c"));
  EXPECT_THAT(filter.Add("no newline"), IsEmpty());
  EXPECT_THAT(filter.Finish(), ElementsAre("no newline"));
}

TEST(LogFilter, GrepTakesLinesThatMatch) {
  auto filter = LogFilter::Make(std::nullopt, "loss=0\\.[0-4]").value();
  EXPECT_THAT(filter.Add("loss=0.9\nloss=0.3\nloss=x0.3\nthe loss=0.1 now\n"),
              ElementsAre("loss=0.3", "the loss=0.1 now"));
  EXPECT_EQ(LogFilter::Make(std::nullopt, "(").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LogFilter, VeryLongLinesAreCut) {
  auto filter = LogFilter::Make(std::nullopt, "x").value();
  EXPECT_THAT(filter.Add(std::string(3 << 20, 'x') + "\n"), SizeIs(3));
}

class LogShipperTest : public ::testing::Test {
 protected:
  LogShipperTest() {
    std::string folder = ::testing::TempDir() + "/log_shipper_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    const SessionIdentity identity{"w", "1", 1};
    shipper_.SetSession(&identity);
    fetch_.set_request(7);
    fetch_.set_sweep("s");
    fetch_.set_trial("0000");
    fetch_.set_attempt(1);
  }
  ~LogShipperTest() override { std::filesystem::remove_all(folder_); }
  void Write(int rank, const std::string& text) {
    std::ofstream(folder_ + "/rank-" + std::to_string(rank) + ".log", std::ios::app) << text;
  }
  void Steps() {
    for (int i = 0; i < 50 && shipper_.Step(); ++i) {
    }
  }

  std::string folder_;
  std::map<int, std::string> text_;
  bool ended_ = false;
  bool runs_ = false;
  LogShipper shipper_{[this](const v1::ReportBatchRequest& batch, v1::ReportBatchResponse*) {
                        for (const auto& log : batch.logs()) {
                          text_[log.rank()] += log.text();
                          ended_ = ended_ || log.end();
                        }
                        return absl::OkStatus();
                      },
                      [this](const AttemptKey&) { return runs_; }};
  v1::FetchLogs fetch_;
};

TEST_F(LogShipperTest, GrepLooksAtTheWholeLogAndKeepsTheLastLines) {
  for (int i = 0; i < 50'000; ++i)
    Write(0, (i % 1000 == 0 ? "mark " : "other ") + std::to_string(i) + "\n");
  Write(1, "mark of rank 1");
  fetch_.set_grep("^mark");
  fetch_.set_lines(3);
  shipper_.Fetch(fetch_, folder_);
  Steps();
  EXPECT_EQ(text_[0], "mark 47000\nmark 48000\nmark 49000\n");
  EXPECT_EQ(text_[1], "mark of rank 1\n");
  EXPECT_TRUE(ended_);
}

TEST_F(LogShipperTest, ALogThatFillsWholeReadsLosesNothing) {
  const std::string line = std::string(1023, 'x') + "\n";
  for (int i = 0; i < 1023; ++i) Write(0, line);
  Write(0, "mark " + std::string(1018, 'y') + "\n");
  ASSERT_EQ(std::filesystem::file_size(folder_ + "/rank-0.log"), std::uintmax_t{1} << 20);
  fetch_.set_grep("^mark");
  fetch_.set_lines(3);
  shipper_.Fetch(fetch_, folder_);
  Steps();
  EXPECT_EQ(text_[0], "mark " + std::string(1018, 'y') + "\n");
  EXPECT_TRUE(ended_);
}

TEST_F(LogShipperTest, TheLastWordsOfAFollowedGangAreShown) {
  Write(0, "info one\n");
  runs_ = true;
  fetch_.set_grep("info");
  fetch_.set_follow(true);
  shipper_.Fetch(fetch_, folder_);
  Steps();
  EXPECT_EQ(text_[0], "info one\n");
  Write(0, "info: it died in the middle of a li");
  runs_ = false;
  Steps();
  EXPECT_EQ(text_[0], "info one\ninfo: it died in the middle of a li\n");
  EXPECT_TRUE(ended_);
}

TEST_F(LogShipperTest, SinceAndFollow) {
  Write(0, "2026-01-01T00:00:01.000 info old\n2026-01-01T00:00:03.000 info new\n");
  runs_ = true;
  fetch_.set_since_unix_ns(absl::ToUnixNanos(At("2026-01-01 00:00:02")));
  fetch_.set_grep("info");
  fetch_.set_follow(true);
  shipper_.Fetch(fetch_, folder_);
  Steps();
  EXPECT_EQ(text_[0], "2026-01-01T00:00:03.000 info new\n");
  Write(0, "2026-01-01T00:00:04.000 debug no\n2026-01-01T00:00:04.000 info ye");
  Steps();
  EXPECT_EQ(text_[0], "2026-01-01T00:00:03.000 info new\n") << "not before the line ends";
  EXPECT_FALSE(ended_);
  Write(0, "s\n");
  runs_ = false;
  Steps();
  EXPECT_EQ(text_[0], "2026-01-01T00:00:03.000 info new\n2026-01-01T00:00:04.000 info yes\n");
  EXPECT_TRUE(ended_);
}

}  // namespace
}  // namespace saeloom::agent
