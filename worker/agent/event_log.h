#pragma once
// Reads the events.jsonl of an attempt while it is written: complete lines only, so a torn last
// line is as good as absent. Keeps a position only to be fast; any first_seq may be asked for, in
// any order. Not thread-safe. Errors: DATA_LOSS for a complete line that is no event or has the
// wrong seq, with its number; what stands before it is still returned. A file that does not exist
// yet is empty.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/events.h"

namespace saeloom::agent {

class EventLog {
 public:
  explicit EventLog(std::string path) : path_(std::move(path)) {}

  struct Batch {
    std::vector<std::string> lines;  ///< seq first_seq, first_seq + 1, ...; without '\n'
    std::vector<sae::config::Event> events;
  };
  /// At most `max_lines` lines and `max_bytes` bytes (but at least one line if there is one).
  [[nodiscard]] absl::StatusOr<Batch> Read(std::int64_t first_seq, std::int64_t max_lines,
                                           std::int64_t max_bytes);

  /// The last event that stands complete in the file, if any.
  std::optional<sae::config::Event> Last();

 private:
  std::string path_;
  std::int64_t seq_ = 1;     ///< of the line that begins at offset_
  std::int64_t offset_ = 0;  ///< in bytes
};

}  // namespace saeloom::agent
