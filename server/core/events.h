#pragma once
// What the event log holds. Lifecycle events change State (state.h) and are replayed at start;
// points are telemetry and are not. Both take their `seq` from one sequence a sweep, and each is
// one element of the stream that watchers see. Plain values; the JSON form is the file format of
// docs/formats/event_log.md. Errors of the parser: DATA_LOSS, naming what is wrong.

#include <cstdint>
#include <map>
#include <optional>
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
  std::string owner;         ///< principal that submitted it; "" = before there were any
  std::string forked_from;   ///< "SWEEP/TRIAL/CHECKPOINT" that its trials begin from; "" = none
  std::string fork_runs_id;  ///< with it: of the runs folder where that is
};
struct SweepChanged {
  SweepState state = SweepState::kRunning;
};
struct CancelRequested {
  bool graceful = false;  ///< running trials save a last checkpoint
};
/// A person asked for the trial again: its budget of attempts is fresh.
struct TrialRetried {};
/// A trial that held no slots was cancelled.
struct TrialCancelled {};

/// What a gang over several workers takes of one of them.
struct HostShare {
  std::string worker;
  int slots = 0;
  bool operator==(const HostShare&) const = default;
};
struct AttemptAllocated {
  int attempt = 0;
  std::string worker;
  std::string runs_id;         ///< of the worker's runs folder
  std::string runs_directory;  ///< absolute, as that worker sees it
  int slots = 0;               ///< of its gang
  /// Of attempts that run in one gang: the first one's, "TRIAL/ATTEMPT"; "" = alone.
  std::string gang;
  /// Of a gang over several workers, the head (`worker`) first; else empty.
  std::vector<HostShare> hosts;
  std::string token;  ///< with hosts: what saeloom-rsh shows to the peers
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
  double seconds = 0;      ///< that the trainer took for it; 0 = it did not say
  std::int64_t bytes = 0;  ///< of its files; 0 = it did not say
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
  std::vector<std::string> suspects;  ///< workers that may be why; none = the attempt's own
};
/// Something to tell watchers: a trainer's warning, the last log lines of a failed attempt.
struct Notice {
  int attempt = 0;  ///< 0 = none
  std::string text;
  std::vector<std::string> lines;
  std::string failed = "";  ///< what a trainer could not do with a checkpoint: write, read
};
/// Telemetry: one line `metrics` or `evaluation` of an attempt's events.
struct Point {
  int attempt = 0;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  bool evaluation = false;
  std::map<std::string, double> values;  ///< may hold NaN and infinities
};

/// What can change while a sweep lives; what is absent stays.
struct SweepUpdated {
  std::optional<std::int64_t> priority;
  std::optional<std::int64_t> max_concurrent;
  std::optional<std::string> queue;
  std::optional<std::map<std::string, std::string>> labels;
};
/// A running trial is to save and end; TrialState CHECKPOINTING until it has. Asked again, the last
/// one counts. One that is PENDING or PAUSED can only be stopped early, and is so at once:
/// its attempt here is 0.
struct StopRequested {
  int attempt = 0;
  StopWanted wanted = StopWanted::kNone;
  std::string reason;
};
/// PAUSED -> PENDING.
struct TrialResumed {
  std::string reason;
};
/// PENDING -> PAUSED: it held no slots.
struct TrialPaused {
  std::string reason;
};
/// More points of the sweep, as trials after the last one.
struct PointsAdded {
  std::vector<std::vector<std::pair<std::string, std::string>>> points;
};
/// A measurement that the search saw, in the order in which it saw them: replaying them gives the
/// same decisions.
struct SearchReport {
  int attempt = 0;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  double value = 0;      ///< of the objective; may be NaN
  bool feasible = true;  ///< the constraints hold
};
struct SearchDecided {
  int rung = 0;  ///< from 1
  double value = 0;
  std::string decision;  ///< continue, stop, pause, promote
};
/// All hosts of a gang over several workers have reserved their slots.
struct AttemptPrepared {
  int attempt = 0;
};
/// The objective when a checkpoint was saved, or nearest before it.
struct CheckpointValue {
  double value = 0;      ///< may be NaN
  bool feasible = true;  ///< the constraints hold
  std::int64_t step = 0;
  bool operator==(const CheckpointValue&) const = default;
};
/// What is absent stays.
struct CheckpointMarked {
  std::string name;
  std::optional<bool> is_protected = std::nullopt;
  std::optional<bool> kept = std::nullopt;      ///< the sweep's policy wants it
  std::optional<bool> secured = std::nullopt;   ///< a worker has linked it below TRIAL/kept
  std::optional<bool> deleting = std::nullopt;  ///< its files are to go
  std::optional<CheckpointValue> value = std::nullopt;
};
/// No file of them is left.
struct CheckpointsDeleted {
  std::vector<std::string> names;
  std::int64_t bytes = 0;   ///< that they had
  std::string reason = "";  ///< "" = they were told to go
};
struct SweepDeleted {};

// Of the fleet: their sweep is "".
struct QueueUpdated {
  std::string name;
  std::int64_t quota_slots = 0;  ///< 0 = no limit
  double weight = 1;
};
struct WorkerCordoned {
  std::string worker;
  std::string reason;
  bool drain = false;
  bool by_person = false;
};
struct WorkerUncordoned {
  std::string worker;
};

using Body =
    std::variant<SweepCreated, SweepChanged, CancelRequested, TrialRetried, TrialCancelled,
                 AttemptAllocated, AttemptStarting, AttemptRunning, Rewound, CheckpointSaved,
                 AttemptVerdict, AttemptEnded, Notice, Point, SweepUpdated, StopRequested,
                 TrialResumed, TrialPaused, PointsAdded, SearchReport, SearchDecided,
                 AttemptPrepared, CheckpointMarked, CheckpointsDeleted, SweepDeleted, QueueUpdated,
                 WorkerCordoned, WorkerUncordoned>;

struct LogEvent {
  std::string sweep;     ///< "" = about the fleet, a sequence of its own
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
