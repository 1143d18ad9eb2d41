#include "client/offline/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace sae::client {

ProgressLine::ProgressLine(std::string title, std::string unit, std::int64_t scale, Clock& clock)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      scale_(scale),
      clock_(clock),
      terminal_(::isatty(2) == 1),
      start_(clock.SinceBoot()),
      shown_(start_) {}

ProgressLine::~ProgressLine() {
  if (open_) std::fputc('\n', stderr);
}

std::string ProgressLine::Text(const std::string& title, const std::string& unit,
                               std::int64_t scale, std::int64_t done, std::int64_t total,
                               absl::Duration elapsed) {
  std::string text = absl::StrCat(title, ": ", done / scale, " of ", total / scale, " ", unit, ", ",
                                  total > 0 ? 100 * done / total : 100, "%");
  const double seconds = absl::ToDoubleSeconds(elapsed);
  if (seconds <= 0 || done <= 0) return text;
  const double rate = static_cast<double>(done) / seconds;
  absl::StrAppend(&text, ", ", static_cast<std::int64_t>(rate / static_cast<double>(scale)), " ",
                  unit, "/s");
  if (done < total)
    absl::StrAppend(&text, ", ", std::ceil(static_cast<double>(total - done) / rate), " s left");
  return text;
}

void ProgressLine::Update(std::int64_t done, std::int64_t total) {
  const absl::Duration now = clock_.SinceBoot();
  const absl::Duration interval = terminal_ ? absl::Milliseconds(200) : absl::Seconds(10);
  if (now - shown_ < interval && !(open_ && done >= total)) return;
  shown_ = now;
  const std::string text = Text(title_, unit_, scale_, done, total, now - start_);
  if (terminal_) {
    std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
    open_ = true;
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

}  // namespace sae::client
