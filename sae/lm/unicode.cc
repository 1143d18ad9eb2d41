#include "sae/lm/unicode.h"

#include <algorithm>
#include <iterator>

namespace sae::lm {
namespace {

struct CodePointRange {
  std::uint32_t first, last;
};
#include "sae/lm/unicode_tables.inc"

template <std::size_t N>
bool InRanges(const CodePointRange (&ranges)[N], char32_t c) {
  const auto* it =
      std::upper_bound(std::begin(ranges), std::end(ranges), c,
                       [](char32_t x, const CodePointRange& r) { return x < r.first; });
  return it != std::begin(ranges) && c <= std::prev(it)->last;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

}  // namespace

CharClass ClassOf(char32_t c) {
  if (c < 0x80) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return CharClass::kLetter;
    if (c >= '0' && c <= '9') return CharClass::kNumber;
    return IsWhiteSpace(c) ? CharClass::kSpace : CharClass::kOther;
  }
  if (InRanges(kLetterRanges, c)) return CharClass::kLetter;
  if (InRanges(kNumberRanges, c)) return CharClass::kNumber;
  return IsWhiteSpace(c) ? CharClass::kSpace : CharClass::kOther;
}

DecodedChar DecodeUtf8(std::string_view text, std::size_t offset) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[offset + i]); };
  const std::size_t left = text.size() - offset;
  const unsigned char b0 = byte(0);
  constexpr DecodedChar kBad{0xFFFD, 1, false};
  if (b0 < 0x80) return {b0, 1, true};
  if (b0 < 0xC2 || b0 > 0xF4) return kBad;
  const int length = b0 < 0xE0 ? 2 : b0 < 0xF0 ? 3 : 4;
  if (left < static_cast<std::size_t>(length)) return kBad;
  char32_t c = b0 & (0xFFU >> (length + 1));
  for (int i = 1; i < length; ++i) {
    if (!IsContinuation(byte(static_cast<std::size_t>(i)))) return kBad;
    c = (c << 6) | (byte(static_cast<std::size_t>(i)) & 0x3FU);
  }
  const bool overlong = (length == 3 && c < 0x800) || (length == 4 && c < 0x10000);
  if (overlong || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return kBad;
  return {c, length, true};
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeUtf8(text, i);
    if (c.valid) {
      out.append(text.substr(i, static_cast<std::size_t>(c.bytes)));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    i += static_cast<std::size_t>(c.bytes);
  }
  return out;
}

}  // namespace sae::lm
