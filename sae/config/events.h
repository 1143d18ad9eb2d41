#pragma once
// events.jsonl: what an attempt says, one JSON object a line, written by rank 0, tailed by the agent.
// Append-only; a torn last line is ignored. Plain values.

#include <cstdint>
#include <map>
#include <string>

#include "sae/base/status.h"

namespace sae::config {

enum class EventKind {
  kStarted, kMetrics, kEvaluation, kCheckpoint, kWarning, kYielded, kStopped, kFinished, kFailed
};
std::string ToString(EventKind kind);
/// Whether this kind, as the last line, is the attempt's verdict.
constexpr bool IsVerdict(EventKind kind) {
  return kind == EventKind::kYielded || kind == EventKind::kStopped || kind == EventKind::kFinished ||
         kind == EventKind::kFailed;
}

struct Event {
  std::int64_t seq = 0;        ///< from 1, without gaps, in one file
  double time = 0;             ///< Unix seconds
  EventKind kind = EventKind::kMetrics;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  std::int64_t from_step = 0;  ///< kStarted: the step of the checkpoint it went on from, 0 = from scratch
  /// kMetrics: train.*, tokens_per_second, ms.<phase>; kEvaluation: heldout.*; kCheckpoint: ms.save, bytes.save;
  /// NaN is allowed (null on disk).
  std::map<std::string, double> values;
  std::string message;         ///< kWarning, kFailed, kYielded, kStopped
  std::string checkpoint;      ///< kCheckpoint: its folder's name
  std::string failed;          ///< kWarning: what could not be done with a checkpoint, write or read; else ""
};

/// One line, ended by '\n'.
std::string ToJsonLine(const Event& event);
[[nodiscard]] absl::StatusOr<Event> ParseEvent(const std::string& line);

}  // namespace sae::config
