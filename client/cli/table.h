#pragma once
// Plain-text tables whose columns line up, also with non-ASCII text; and the numbers in them. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace sae::cli {

/// Columns a terminal needs for UTF-8 text: one a code point (no wide or combining characters).
int DisplayWidth(const std::string& text);
/// At most `width` columns; what is cut ends in "…".
std::string Shorten(const std::string& text, int width);

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// As many cells as there are columns; missing ones are empty.
  void Add(std::vector<std::string> cells);
  /// Title line and rows, two spaces between columns, no trailing blanks; "" in front of each line:
  /// `indent`.
  std::vector<std::string> Lines() const;
  std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// "-" for what is not finite; else `digits` significant digits without an exponent where it is
/// readable.
std::string Number(double x, int digits = 4);
/// "1.25%".
std::string Percent(double share);
/// "950", "12.3k", "4.5M".
std::string Count(double x);
/// "512 B", "1.5 MiB".
std::string Bytes(double bytes);
/// "8s", "2m05s", "3h20m", "4d03h"; "-" for an infinite or negative one.
std::string Span(absl::Duration d);
/// `filled` of [0, 1] as a bar of `width` columns between brackets.
std::string Bar(double filled, int width);

}  // namespace sae::cli
