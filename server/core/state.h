#pragma once
// The coordinator's durable state: a fold of the event log. Apply is the only way it changes; it is
// a pure function of (state, event), so that a replay at start, a simulator and the live process
// agree. Not thread-safe. Errors of Apply: INTERNAL for an event that the state does not allow (a
// bug, or a log of another program); the state is then as before.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "sae/config/sweep_spec.h"
#include "server/core/events.h"
#include "server/core/fleet.h"
#include "server/search/searcher.h"

namespace sae::server {

struct AttemptRecord {
  int number = 0;  ///< from 1
  std::string worker;
  std::string runs_id;
  std::string runs_directory;
  int slots = 0;                 ///< of its gang
  std::string gang;              ///< as in AttemptAllocated
  std::vector<HostShare> hosts;  ///< of a gang over several workers, the head first; else empty
  std::string token;             ///< with hosts
  bool prepared = false;         ///< all hosts have reserved their slots
  std::vector<std::string> suspects;  ///< as in AttemptEnded
  absl::Time start;
  absl::Time end = absl::InfiniteFuture();
  std::string outcome = "running";
  std::string reason;
  FailureClass failure_class = FailureClass::kUnspecified;
  std::optional<std::int64_t> from_step;  ///< set once it trains
  std::string verdict;                    ///< the trainer's last word, "" = none yet
  std::string verdict_message;
  StopWanted stop_wanted = StopWanted::kNone;  ///< once it was told to save and end
  std::string stop_reason;
};

struct CheckpointRecord {
  int attempt = 0;
  std::string name;
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  absl::Time time;
  bool is_protected = false;  ///< by a person, or because a fork begins from it
  bool kept = false;          ///< by the sweep's policy
  bool secured = false;       ///< its files are below TRIAL/kept, too
  bool deleting = false;      ///< its files are to go
  std::optional<CheckpointValue> value;
};

/// A measurement of the objective.
struct ObjectiveRecord {
  double value = 0;  ///< may be NaN
  bool feasible = true;
  std::int64_t step = 0;
};

struct TrialRecord {
  int index = 0;
  int slots = 1;  ///< its ranks
  /// Equal for trials of the sweep that can share a stream.
  std::string stream;
  std::int64_t memory = 0;  ///< bytes of all its ranks; 0 = unknown
  std::vector<std::pair<std::string, std::string>> assignments;
  TrialState state = TrialState::kPending;
  std::string reason;
  FailureClass failure_class = FailureClass::kUnspecified;
  std::vector<AttemptRecord> attempts;  ///< attempts[i].number == i + 1
  int trial_faults = 0;                 ///< since the last retry by a person
  int lost_workers = 0;
  int fresh_from = 0;  ///< so many attempts were before the last retry by a person
  absl::Time pending_since;
  absl::Duration delay;                       ///< PENDING: not before pending_since + delay
  std::vector<CheckpointRecord> checkpoints;  ///< oldest first: all whose files may be there
  std::vector<std::string> log_tail;          ///< of the last attempt that ended badly
  int rung = 0;  ///< newest that the search saw it reach, from 1; 0 = none
  search::Action search_said = search::Action::kContinue;  ///< its last word that still stands
  /// Newest that the search saw, or its last one once it has ended well.
  std::optional<ObjectiveRecord> objective;

  const AttemptRecord* attempt(int number) const {
    return number >= 1 && number <= static_cast<int>(attempts.size())
               ? &attempts[static_cast<std::size_t>(number) - 1]
               : nullptr;
  }
  /// The attempt that holds slots, or null.
  const AttemptRecord* live_attempt() const { return IsLive(state) ? &attempts.back() : nullptr; }
  /// Points of `number` beyond this step are superseded by a later attempt; the largest int64 when
  /// none are.
  std::int64_t EffectiveUpTo(int number) const;
};

struct SweepRecord {
  std::string name;
  config::SweepSpec spec;
  SweepState state = SweepState::kRunning;
  bool cancel_requested = false;
  bool cancel_graceful = false;  ///< its running trials save first
  std::string owner;
  std::string forked_from;   ///< "SWEEP/TRIAL/CHECKPOINT" that its trials begin from; "" = none
  std::string fork_runs_id;  ///< with it: of the runs folder where that is
  absl::Time created;
  absl::Time ended = absl::InfiniteFuture();
  std::vector<TrialRecord> trials;
  std::set<int> pending;                  ///< indices
  std::set<int> live;                     ///< indices
  std::set<int> paused;                   ///< indices
  /// Trials whose objective is finite and meets the constraints, by loss: the best first.
  std::set<std::pair<double, int>> ranked;
  /// Of the longest write of a checkpoint that its trials told of.
  double slowest_save_seconds = 0;
  std::array<std::int64_t, 12> counts{};  ///< by TrialState
  /// All that the search was told, in its order: told again, a searcher is as it was.
  std::vector<search::Input> search_inputs;

  std::int64_t count(TrialState s) const { return counts[static_cast<std::size_t>(s)]; }
  bool AllEnded() const;
  const TrialRecord* trial(const std::string& name) const;
  /// The whole configuration of one trial.
  config::TrialConfig Config(const TrialRecord& trial) const;
};

/// Slots that the attempt holds on `worker`; 0 = it is not one of its workers.
int ShareOf(const AttemptRecord& attempt, const std::string& worker);

/// Tells gangs apart: all attempts of one have the same, and no other has it.
std::string GangOf(const std::string& sweep, const std::string& trial,
                   const AttemptRecord& attempt);

/// Where a forked sweep's trials begin, as the worker of `attempt` sees it; "" for any other sweep.
std::string ForkFolder(const SweepRecord& sweep, const AttemptRecord& attempt);

/// "0000", "0001", ...
std::string TrialNameOf(int index);
/// -1 unless it is what TrialNameOf makes.
int TrialIndexOf(const std::string& name);

class State {
 public:
  [[nodiscard]] absl::Status Apply(const LogEvent& event);

  const SweepRecord* sweep(const std::string& name) const;
  /// In the order of creation.
  const std::vector<std::string>& sweep_order() const { return order_; }
  /// Names of sweeps that were deleted: they are never used again, for their files stay.
  const std::set<std::string>& deleted() const { return deleted_; }
  const Fleet& fleet() const { return fleet_; }
  /// Every field as text: equal strings, equal states.
  std::string DebugString() const;

 private:
  friend class StateSnapshot;
  absl::Status ApplyTo(const LogEvent& event, SweepRecord& sweep);
  absl::Status ApplyTrial(const LogEvent& event, SweepRecord& sweep, TrialRecord& trial);

  std::map<std::string, SweepRecord> sweeps_;
  std::vector<std::string> order_;
  Fleet fleet_;
  std::set<std::string> deleted_;
};

}  // namespace sae::server
