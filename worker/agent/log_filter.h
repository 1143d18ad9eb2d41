#pragma once
// Which lines of a log a reader wants: those from a time on, those that match. A line's time is the
// one it begins with ("2026-01-31T12:34:56.789 ...", local); a line without one belongs to the line
// before it. Not thread-safe.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"

namespace re2 {
class RE2;
}

namespace saeloom::agent {

class LogFilter {
 public:
  /// `grep` "" = every line. INVALID_ARGUMENT for a pattern that RE2 does not take.
  [[nodiscard]] static absl::StatusOr<LogFilter> Make(std::optional<absl::Time> since,
                                                      const std::string& grep);

  /// The wanted ones of the lines that `text` completes. What follows its last newline waits.
  std::vector<std::string> Add(const std::string& text);
  bool since() const { return since_.has_value(); }
  /// What waits, if it is wanted.
  std::vector<std::string> Finish();

 private:
  bool Wanted(const std::string& line);

  std::optional<absl::Time> since_;
  std::shared_ptr<const re2::RE2> grep_;  // shared by the filters of all ranks; null = every line
  bool started_ = true;                   ///< the last line with a time was late enough
  std::string rest_;
};

/// nullopt when the line does not begin with a time.
std::optional<absl::Time> TimeOfLine(const std::string& line);

}  // namespace saeloom::agent
