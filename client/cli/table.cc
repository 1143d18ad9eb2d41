#include "client/cli/table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace sae::cli {

int DisplayWidth(const std::string& text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string Shorten(const std::string& text, int width) {
  if (DisplayWidth(text) <= width) return text;
  if (width <= 0) return "";
  std::size_t end = 0;
  for (int left = width - 1; end < text.size(); ++end) {
    if ((text[end] & 0xC0) != 0x80 && left-- == 0) break;
  }
  return text.substr(0, end) + "…";
}

void Table::Add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::vector<std::string> Table::Lines() const {
  std::vector<std::string> titles;
  for (const Column& c : columns_) titles.push_back(c.title);
  std::vector<const std::vector<std::string>*> all = {&titles};
  for (const auto& row : rows_) all.push_back(&row);
  std::vector<int> widths(columns_.size(), 0);
  for (const auto* row : all) {
    for (std::size_t i = 0; i < row->size(); ++i)
      widths[i] = std::max(widths[i], DisplayWidth((*row)[i]));
  }
  std::vector<std::string> lines;
  for (const auto* row : all) {
    std::string line;
    for (std::size_t i = 0; i < row->size(); ++i) {
      const std::string pad(static_cast<std::size_t>(widths[i] - DisplayWidth((*row)[i])), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == Align::kRight ? pad + (*row)[i] : (*row)[i] + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string Table::Text() const { return absl::StrJoin(Lines(), "\n") + "\n"; }

std::string Number(double x, int digits) {
  if (!std::isfinite(x)) return "-";
  const double magnitude = std::abs(x);
  if (magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e6))
    return absl::StrFormat("%.*g", digits, x);
  if (magnitude == 0) return "0";
  const int before = magnitude < 1 ? 0 : static_cast<int>(std::floor(std::log10(magnitude))) + 1;
  return absl::StrFormat("%.*f", std::max(0, digits - before), x);
}

std::string Percent(double share) {
  return std::isfinite(share) ? absl::StrFormat("%.*f%%", share < 0.0995 ? 2 : 1, 100 * share)
                              : "-";
}

std::string Count(double x) {
  if (!std::isfinite(x)) return "-";
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (std::abs(x) >= 999.5 && unit < 4) {
    x /= 1000;
    ++unit;
  }
  if (unit == 0) return absl::StrFormat("%.0f", x);
  return absl::StrFormat("%.*f%s",
                         std::abs(x) < 9.995   ? 2
                         : std::abs(x) < 99.95 ? 1
                                               : 0,
                         x, kUnits[unit]);
}

std::string Bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1023.5 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, bytes, kUnits[unit]);
}

std::string Span(absl::Duration d) {
  if (d == absl::InfiniteDuration() || d < absl::ZeroDuration()) return "-";
  const std::int64_t s = absl::ToInt64Seconds(d + absl::Milliseconds(500));
  if (s < 60) return absl::StrCat(s, "s");
  if (s < 3600) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  if (s < 86400) return absl::StrFormat("%dh%02dm", s / 3600, s / 60 % 60);
  return absl::StrFormat("%dd%02dh", s / 86400, s / 3600 % 24);
}

std::string Bar(double filled, int width) {
  const double share = std::isfinite(filled) ? std::clamp(filled, 0.0, 1.0) : 0.0;
  const int full = static_cast<int>(share * width + 1e-9);
  std::string bar = "[";
  for (int i = 0; i < width; ++i) bar += i < full ? '#' : '.';
  return bar + "]";
}

}  // namespace sae::cli
