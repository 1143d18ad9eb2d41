#pragma once
// What the event log holds. Lifecycle events change State (state.h) and are replayed at start;
// points are telemetry and are not. Both take their `seq` from one sequence a sweep, and each is
// one element of the stream that watchers see. Plain values; the JSON form is the file format of
// docs/formats/event_log.md. Errors of the parser: DATA_LOSS, naming what is wrong.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "server/core/states.h"

namespace sae::server {

/// A sweep was accepted. The points of its search are drawn once, here.
struct SweepCreated {
  std::string spec;  ///< JSON of config::SweepSpec
  /// Each trial's assignments: path, JSON scalar.
  std::vector<std::vector<std::pair<std::string, std::string>>> points;
};
struct SweepChanged {
  SweepState state = SweepState::kRunning;
};
struct CancelRequested {};
/// A person asked for the trial again: its budget of attempts is fresh.
struct TrialRetried {};
/// A trial that held no slots was cancelled.
struct TrialCancelled {};

struct AttemptAllocated {
  int attempt = 0;
  std::string worker;
  std::string runs_id;         ///< of the worker's runs folder
  std::string runs_directory;  ///< absolute, as that worker sees it
  int slots = 0;                ///< of its gang
  /// Of attempts that run in one gang: the first one's, "TRIAL/ATTEMPT"; "" = alone.
  std::string gang;
};
/// The worker has started the gang.
struct AttemptStarting {
  int attempt = 0;
};
/// The trainer's `started` line: it trains, from a checkpoint at from_step (0 = from scratch).
struct AttemptRunning {
  int attempt = 0;
  std::int64_t from_step = 0;
};
/// Points of older attempts beyond `step` are superseded.
struct Rewound {
  int attempt = 0;
  std::int64_t step = 0;
};
struct CheckpointSaved {
  int attempt = 0;
  std::string name;  ///< its folder
  std::int64_t step = 0;
  std::int64_t tokens = 0;
};
/// The trainer's last word, before the worker has seen its processes gone.
struct AttemptVerdict {
  int attempt = 0;
  std::string verdict;  ///< finished, stopped, yielded, failed
  std::string message;
  std::int64_t step = 0;
};
/// Who pays for an attempt that has to be repeated.
enum class Charge { kNone, kTrial, kWorker };
struct AttemptEnded {
  int attempt = 0;
  std::string outcome;  ///< succeeded, stopped, yielded, failed, refused, lost, cancelled
  std::string reason;
  FailureClass failure_class = FailureClass::kUnspecified;
  Charge charge = Charge::kNone;
  TrialState next = TrialState::kPending;
  absl::Duration delay;               ///< kPending: not before this long after `time`
  std::vector<std::string> log_tail;  ///< at most 100 lines
};
/// Something to tell watchers: a trainer's warning, the last log lines of a failed attempt.
struct Notice {
  int attempt = 0;  ///< 0 = none
  std::string text;
  std::vector<std::string> lines;
};
/// Telemetry: one line `metrics` or `evaluation` of an attempt's events.
struct Point {
  int attempt = 0;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  bool evaluation = false;
  std::map<std::string, double> values;  ///< may hold NaN and infinities
};

using Body = std::variant<SweepCreated, SweepChanged, CancelRequested, TrialRetried, TrialCancelled,
                          AttemptAllocated, AttemptStarting, AttemptRunning, Rewound,
                          CheckpointSaved, AttemptVerdict, AttemptEnded, Notice, Point>;

struct LogEvent {
  std::string sweep;
  std::int64_t seq = 0;  ///< 1, 2, ... in its sweep
  absl::Time time;       ///< wall clock, for display
  std::string trial;     ///< "0000"; "" = about the sweep
  Body body;

  bool telemetry() const { return std::holds_alternative<Point>(body); }
};

/// The body's kind as in the log: "sweep_created", "point", ...
std::string KindOf(const Body& body);
/// One JSON object, without a newline; the kind, sweep, seq, time and trial stand beside it.
std::string BodyToJson(const Body& body);
[[nodiscard]] absl::StatusOr<Body> ParseBody(const std::string& kind, const std::string& json);

}  // namespace sae::server
