#include "sae/lm/pretokenizer.h"

#include <string>

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

std::vector<std::string> Pieces(const std::string& text) {
  std::vector<std::size_t> ends;
  SplitPieces(text, ends);
  std::vector<std::string> out;
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size());
  return out;
}

using V = std::vector<std::string>;

TEST(Pretokenizer, WordsTakeOneBlank) {
  EXPECT_EQ(Pieces("a bc  d"), (V{"a", " bc", " ", " d"}));
  EXPECT_EQ(Pieces("x\t y"), (V{"x", "\t", " y"}));
  EXPECT_EQ(Pieces("x\n\ny"), (V{"x", "\n", "\n", "y"}));
  EXPECT_EQ(Pieces("tail  \n"), (V{"tail", "  \n"}));
}

TEST(Pretokenizer, NumbersStandAloneAndEndTheirPart) {
  EXPECT_EQ(Pieces("12"), (V{"1", "2"}));
  EXPECT_EQ(Pieces("a  1"), (V{"a", "  ", "1"}));  // the look-ahead sees the end of the part
  EXPECT_EQ(Pieces("x²½"), (V{"x", "²", "½"}));
  EXPECT_EQ(Pieces("a 1b"), (V{"a", " ", "1", "b"}));
}

TEST(Pretokenizer, Contractions) {
  EXPECT_EQ(Pieces("it's we'll I'M"), (V{"it", "'s", " we", "'ll", " I", "'", "M"}));
  EXPECT_EQ(Pieces("'"), (V{"'"}));
  EXPECT_EQ(Pieces("'r"), (V{"'", "r"}));
  EXPECT_EQ(Pieces(" 's"), (V{" '", "s"}));
  EXPECT_EQ(Pieces("'stop"), (V{"'s", "top"}));
}

TEST(Pretokenizer, OtherCharactersRunTogether) {
  EXPECT_EQ(Pieces("a--b ...!"), (V{"a", "--", "b", " ...!"}));
  EXPECT_EQ(Pieces(""), V{});
}

}  // namespace
}  // namespace sae::lm
