#include "sae/lm/pretokenizer.h"

#include "sae/lm/unicode.h"

namespace sae::lm {
namespace {

struct Char {
  CharClass kind;
  std::size_t bytes;
};

Char CharAt(std::string_view text, std::size_t i) {
  const DecodedChar c = DecodeUtf8(text, i);
  return {ClassOf(c.code_point), static_cast<std::size_t>(c.bytes)};
}

/// Bytes of the contraction at `i` of `part` ('s 't 're 've 'm 'll 'd), 0 if there is none.
std::size_t ContractionBytes(std::string_view part, std::size_t i) {
  if (part[i] != '\'' || i + 1 >= part.size()) return 0;
  const char a = part[i + 1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (i + 2 >= part.size()) return 0;
  const char b = part[i + 2];
  return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/// End of the run of characters of class `kind` that begins at `i`.
std::size_t RunEnd(std::string_view part, std::size_t i, CharClass kind) {
  while (i < part.size()) {
    const Char c = CharAt(part, i);
    if (c.kind != kind) break;
    i += c.bytes;
  }
  return i;
}

/// End of the white space that the pattern takes at `i`: all of it at the end of the part, else all
/// but the last character, which is left to lead a word (or, alone, is a piece of its own).
std::size_t SpaceEnd(std::string_view part, std::size_t i) {
  std::size_t last = i;
  std::size_t end = i;
  while (end < part.size()) {
    const Char c = CharAt(part, end);
    if (c.kind != CharClass::kSpace) break;
    last = end;
    end += c.bytes;
  }
  return end == part.size() || last == i ? end : last;
}

/// End of the match at `i` in a part without characters of category N.
std::size_t MatchEnd(std::string_view part, std::size_t i) {
  if (const std::size_t bytes = ContractionBytes(part, i); bytes != 0) return i + bytes;
  std::size_t word = i;
  Char c = CharAt(part, word);
  if (part[i] == ' ' && i + 1 < part.size()) {
    word = i + 1;
    c = CharAt(part, word);
  }
  if (c.kind == CharClass::kSpace) return SpaceEnd(part, i);
  return RunEnd(part, word, c.kind);
}

}  // namespace

void SplitPieces(std::string_view text, std::vector<std::size_t>& ends) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    if (const Char c = CharAt(text, begin); c.kind == CharClass::kNumber) {
      begin += c.bytes;
      ends.push_back(begin);
      continue;
    }
    std::size_t end = begin;
    while (end < text.size()) {
      const Char c = CharAt(text, end);
      if (c.kind == CharClass::kNumber) break;
      end += c.bytes;
    }
    const std::string_view part = text.substr(begin, end - begin);
    for (std::size_t i = 0; i < part.size();) {
      i = MatchEnd(part, i);
      ends.push_back(begin + i);
    }
    begin = end;
  }
}

}  // namespace sae::lm
