#pragma once
// One line of progress with the time left, on standard error: redrawn in place on a terminal, else
// a line about every ten seconds. One thread at a time; borrows the clock.

#include <cstdint>
#include <string>

#include "absl/time/time.h"

#include "sae/base/clock.h"

namespace sae::client {

class ProgressLine {
 public:
  /// `unit` is what is counted: "rows". Counts are shown divided by `scale` (1048576 with unit
  /// "MiB").
  ProgressLine(std::string title, std::string unit, std::int64_t scale = 1,
               Clock& clock = RealClock());
  /// Ends the line.
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void Update(std::int64_t done, std::int64_t total);
  /// The text of a line: "harvest: 1200 of 4000 rows, 30%, 400 rows/s, 7 s left".
  static std::string Text(const std::string& title, const std::string& unit, std::int64_t scale,
                          std::int64_t done, std::int64_t total, absl::Duration elapsed);

 private:
  const std::string title_, unit_;
  const std::int64_t scale_;
  Clock& clock_;
  const bool terminal_;
  const absl::Duration start_;
  absl::Duration shown_;
  bool open_ = false;  ///< a line on the terminal waits for its end
};

}  // namespace sae::client
