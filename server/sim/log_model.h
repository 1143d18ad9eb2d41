#pragma once
// A second reading of the event log, for the checker: just what its invariants need, written from
// the documented meaning of the events (docs/formats/event_log.md) and not from the coordinator's
// code. Pure.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sae/config/sweep_spec.h"
#include "server/core/events.h"

namespace sae::server::sim {

struct AttemptModel {
  int number = 0;
  std::string worker;
  std::vector<HostShare> hosts;  ///< one even when it is alone
  int slots = 0;
  std::string gang;              ///< of the sweep; unique to its attempt when alone
  std::size_t allocated_at = 0;  ///< index into the log
  bool prepared = false;
  bool started = false;  ///< its worker was seen to have started it
  bool ended = false;
  std::size_t ended_at = 0;
  std::int64_t from_step = -1;  ///< -1: it never trained
};
struct TrialModel {
  bool ended = false;  ///< in a state that is final
  bool paused = false;
  std::vector<AttemptModel> attempts;
  int charged_trial = 0, charged_worker = 0;  ///< since the last retry
  const AttemptModel* attempt(int number) const {
    return number >= 1 && number <= static_cast<int>(attempts.size())
               ? &attempts[static_cast<std::size_t>(number) - 1]
               : nullptr;
  }
  const AttemptModel* live() const {
    return attempts.empty() || attempts.back().ended ? nullptr : &attempts.back();
  }
};
struct SweepModel {
  config::SweepSpec spec;
  std::string queue;
  std::int64_t max_concurrent = 0;
  bool ended = false, deleted = false;
  bool paused = false;
  std::vector<TrialModel> trials;
};
struct QueueModel {
  std::int64_t quota = 0;  ///< 0 = none
};

struct LogModel {
  std::map<std::string, SweepModel> sweeps;
  std::map<std::string, QueueModel> queues;

  /// Null when there is none.
  const TrialModel* trial(const std::string& sweep, const std::string& name) const;
  const TrialModel* trial(const LogEvent& event) const { return trial(event.sweep, event.trial); }
  /// Slots in use of a queue, each gang's once.
  std::int64_t InUse(const std::string& queue) const;
  /// Slots in use on a worker.
  int OnWorker(const std::string& worker) const;
  std::int64_t Live(const SweepModel& sweep) const;

  void Apply(const LogEvent& event, std::size_t index);
};

/// Feeds the log to a model; `before` sees each event with the model as it was before it, `after`
/// as it is then. Either may be empty.
LogModel ReadLog(const std::vector<LogEvent>& log,
                 const std::function<void(const LogModel&, const LogEvent&, std::size_t)>& before,
                 const std::function<void(const LogModel&, const LogEvent&, std::size_t)>& after);

/// "0007" -> 7; -1 unless it is a number.
int IndexOfTrial(const std::string& name);
/// Nothing of the trial may follow once it has ended, but these: telemetry told late, notices, and
/// what people or retention do with its checkpoints.
bool MayFollowTheEnd(const Body& body);

}  // namespace sae::server::sim
