#pragma once
// The little of Unicode that byte-level BPE needs: UTF-8 decoding and three character classes
// (general categories L and N of Unicode 14.0, property White_Space). Pure functions, thread-safe.

#include <cstdint>
#include <string>
#include <string_view>

namespace sae::lm {

enum class CharClass : std::uint8_t { kLetter, kNumber, kSpace, kOther };

CharClass ClassOf(char32_t code_point);

struct DecodedChar {
  char32_t code_point = 0;
  int bytes = 0;  ///< bytes consumed: 1-4
  bool valid = true;
};

/// Decodes the character at `offset` (< text.size()). A byte that starts no well-formed sequence
/// (overlong, surrogate, beyond U+10FFFF, cut short) gives U+FFFD, one byte consumed, valid =
/// false.
DecodedChar DecodeUtf8(std::string_view text, std::size_t offset);

/// The text with U+FFFD in place of every byte that starts no well-formed sequence.
std::string ReplaceInvalidUtf8(std::string_view text);

}  // namespace sae::lm
