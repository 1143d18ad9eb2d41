#pragma once
// What happened in one run of the service, as those saw it who cannot be wrong: the machines (which
// processes lived when), the trainers (what they wrote), the clients (what they asked and were
// answered), the watchers (what they were shown) and the coordinator's database. The checker reads
// it when all is over. A simulation fills it, and so does a test with real processes, as far as it
// can see. Times are of one clock that never jumps. Plain data.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "server/core/events.h"
#include "server/core/messages.h"

namespace sae::server::sim {

/// The processes of one attempt on one machine.
struct ProcessLife {
  AttemptKey key;
  std::string worker;
  std::string gang;  ///< equal for attempts whose trials share processes
  int slots = 0;     ///< of the gang, on this machine
  absl::Duration start;
  absl::Duration end = absl::InfiniteDuration();
};

/// Slots that a worker held for a gang over several workers.
struct Reservation {
  AttemptKey key;
  std::string worker;
  absl::Duration start;
};

struct ClientOp {
  enum class Kind {
    kSubmit,
    kCancel,
    kRetry,
    kPause,
    kResume,
    kUpdate,
    kOther,
  };
  /// kUnknown: no answer came, so it may have been done; kRefused: it was answered with an error
  /// that says that nothing was done.
  enum class Outcome { kUnknown, kOk, kRefused };
  Kind kind = Kind::kOther;
  std::string sweep;
  std::vector<std::string> trials;  ///< kRetry: that the answer named
  std::string request_id;
  std::size_t points = 0;  ///< kSubmit
  absl::Duration start;
  absl::Duration end = absl::InfiniteDuration();
  Outcome outcome = Outcome::kUnknown;
  absl::StatusCode code = absl::StatusCode::kOk;  ///< kRefused
};

/// The coordinator told a worker that lines up to `seq` of events.jsonl are recorded.
struct AcknowledgedLines {
  AttemptKey key;
  std::int64_t seq = 0;
};

/// One event as a watcher was shown it.
struct SeenEvent {
  std::int64_t seq = 0;
  std::string kind;
  std::string trial;
};
/// One watcher of one sweep, over all of its connections.
struct Watch {
  std::string sweep;
  std::vector<SeenEvent> seen;
};

struct History {
  std::uint64_t seed = 0;
  std::map<std::string, int> slots;  ///< of each worker
  std::vector<ProcessLife> processes;
  std::vector<Reservation> reservations;
  std::map<AttemptKey, std::vector<std::string>> lines;  ///< events.jsonl of each attempt
  std::vector<AcknowledgedLines> acknowledged;
  std::vector<ClientOp> operations;
  std::vector<Watch> watches;

  /// The database at the end, in the order of its commits, telemetry included.
  std::vector<LogEvent> log;
  /// When log[i] became durable; empty when that is not known.
  std::vector<absl::Duration> committed;
  int trial_attempts = 0;  ///< the coordinator's limits
  int worker_attempts = 0;
  /// Faults ended long enough ago for everything to have ended.
  bool settled = false;
  /// How often what happened, for people: faults, commits that went wrong, ...
  std::map<std::string, std::int64_t> counts;
  /// Sweeps that may be left unended: a person paused them, or nothing can run them.
  std::vector<std::string> may_linger;
};

}  // namespace sae::server::sim
