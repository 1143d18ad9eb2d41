#include "sae/lm/unicode.h"

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

TEST(Unicode, ClassesOfKnownCharacters) {
  for (const char32_t c : {U'a', U'Z', U'é', U'ß', U'日', U'\x1D400', U'\x3134A', U'\xAA'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kLetter) << std::hex << static_cast<std::uint32_t>(c);
  }
  for (const char32_t c : {U'0', U'9', U'²', U'½', U'Ⅳ', U'٣', U'\x1FBF9'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kNumber) << std::hex << static_cast<std::uint32_t>(c);
  }
  for (const char32_t c : {U'\x09', U'\x0D', U' ', U'\x85', U'\xA0', U'\x1680', U'\x2000',
                           U'\x200A', U'\x2028', U'\x2029', U'\x202F', U'\x205F', U'\x3000'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kSpace) << std::hex << static_cast<std::uint32_t>(c);
  }
  for (const char32_t c : {U'\x08', U'\x1C', U'\x1F', U'\x180E', U'\x200B', U'\xFEFF', U'!',
                           U'\x300', U'\x10FFFF', U'\x3134B', U'\xFFFD'}) {
    EXPECT_EQ(ClassOf(c), CharClass::kOther) << std::hex << static_cast<std::uint32_t>(c);
  }
}

TEST(Unicode, DecodesEveryLength) {
  const std::string text = "a\xC3\xA9\xE6\x97\xA5\xF0\x9D\x90\x80";
  std::size_t i = 0;
  for (const char32_t want : {U'a', U'é', U'日', U'\x1D400'}) {
    const DecodedChar c = DecodeUtf8(text, i);
    EXPECT_TRUE(c.valid);
    EXPECT_EQ(c.code_point, want);
    i += static_cast<std::size_t>(c.bytes);
  }
  EXPECT_EQ(i, text.size());
}

TEST(Unicode, IllFormedSequencesTakeOneByte) {
  for (const std::string& bad : {std::string("\x80"), std::string("\xC0\x80"), std::string("\xC3"),
                                 std::string("\xE0\x80\x80"), std::string("\xED\xA0\x80"),
                                 std::string("\xF0\x80\x80\x80"), std::string("\xF4\x90\x80\x80"),
                                 std::string("\xF5\x80\x80\x80"), std::string("\xE2\x82")}) {
    const DecodedChar c = DecodeUtf8(bad, 0);
    EXPECT_FALSE(c.valid);
    EXPECT_EQ(c.bytes, 1);
    EXPECT_EQ(c.code_point, U'\xFFFD');
  }
  EXPECT_EQ(ReplaceInvalidUtf8("a\xE2\x82z"), "a\xEF\xBF\xBD\xEF\xBF\xBDz");
}

}  // namespace
}  // namespace sae::lm
