#include "server/core/snapshot.h"

#include <concepts>

#include "server/core/snapshot_archive.h"
#include "server/core/state_search.h"

namespace sae::server {

template <typename T, typename Record>
concept Is = std::same_as<std::remove_const_t<T>, Record>;

// The bindings name every member, so that a new one is a compile error here. Found by the archives
// through their arguments.
template <typename A, Is<HostShare> T>
void Fields(A& a, T& x) {
  auto& [worker, slots] = x;
  a(Shared{worker}, slots);
}

template <typename A, Is<QueueRecord> T>
void Fields(A& a, T& x) {
  auto& [quota_slots, weight] = x;
  a(quota_slots, weight);
}

template <typename A, Is<CordonRecord> T>
void Fields(A& a, T& x) {
  auto& [reason, drain, by_person, since] = x;
  a(reason, drain, by_person, since);
}

template <typename A, Is<Fleet> T>
void Fields(A& a, T& x) {
  auto& [queues, cordons] = x;
  a(queues, cordons);
}

/// How an attempt ended on a worker (WorkerHealth).
struct HealthEnd {
  FailureClass failure = FailureClass::kUnspecified;
  absl::Time time;
  bool counts = false;
};
template <typename A, Is<HealthEnd> T>
void Fields(A& a, T& x) {
  auto& [failure, time, counts] = x;
  a(failure, time, counts);
}

template <typename A, Is<AttemptRecord> T>
void Fields(A& a, T& x) {
  auto& [number, worker, runs_id, runs_directory, slots, gang, hosts, token, prepared, suspects,
         start, end, outcome, reason, failure_class, from_step, verdict, verdict_message,
         stop_wanted, stop_reason] = x;
  a(number, Shared{worker}, Shared{runs_id}, Shared{runs_directory}, slots, gang, hosts, token,
    prepared, suspects, start, end, Shared{outcome}, reason, failure_class, from_step,
    Shared{verdict}, verdict_message, stop_wanted, stop_reason);
}

template <typename A, Is<CheckpointValue> T>
void Fields(A& a, T& x) {
  auto& [value, feasible, step] = x;
  a(value, feasible, step);
}

template <typename A, Is<CheckpointRecord> T>
void Fields(A& a, T& x) {
  auto& [attempt, name, step, tokens, time, is_protected, kept, secured, deleting, value] = x;
  a(attempt, name, step, tokens, time, is_protected, kept, secured, deleting, value);
}

template <typename A, Is<ObjectiveRecord> T>
void Fields(A& a, T& x) {
  auto& [value, feasible, step] = x;
  a(value, feasible, step);
}

template <typename A, Is<search::Input> T>
void Fields(A& a, T& x) {
  auto& [kind, trial, tokens, loss] = x;
  a(kind, trial, tokens, loss);
}

template <typename A, Is<TrialRecord> T>
void Fields(A& a, T& x) {
  auto& [index, slots, stream, memory, assignments, state, reason, failure_class, attempts,
         trial_faults, lost_workers, fresh_from, pending_since, delay, checkpoints, log_tail, rung,
         search_said, objective] = x;
  a(index, slots, Shared{stream}, memory, assignments, state, Shared{reason}, failure_class,
    attempts, trial_faults, lost_workers, fresh_from, pending_since, delay, checkpoints, log_tail,
    rung, search_said, objective);
}

template <typename A, Is<StateSnapshot::SweepParts> T>
void Fields(A& a, T& x) {
  auto& [cut, trials] = x;
  a(cut, trials);
}

namespace {

/// Without its trials and what follows from them: pending, live, paused, ranked, counts.
template <typename A, Is<SweepRecord> T>
void HeadFields(A& a, T& x, std::string& spec_json) {
  auto& [name, spec, state, cancel_requested, cancel_graceful, owner, forked_from, fork_runs_id,
         created, ended, trials, pending, live, paused, ranked, slowest_save_seconds, counts,
         search_inputs] = x;
  (void)spec;
  (void)trials;
  (void)pending;
  (void)live;
  (void)paused;
  (void)ranked;
  (void)counts;
  a(name, spec_json, state, cancel_requested, cancel_graceful, owner, forked_from, fork_runs_id,
    created, ended, slowest_save_seconds, search_inputs);
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("snapshot: ", what, " cannot be read"));
}

void Derive(SweepRecord& sweep) {
  sweep.pending.clear();
  sweep.live.clear();
  sweep.paused.clear();
  sweep.ranked.clear();
  sweep.counts.fill(0);
  for (const TrialRecord& trial : sweep.trials) {
    ++sweep.counts[static_cast<std::size_t>(trial.state)];
    if (trial.state == TrialState::kPending) sweep.pending.insert(sweep.pending.end(), trial.index);
    if (IsLive(trial.state)) sweep.live.insert(sweep.live.end(), trial.index);
    if (trial.state == TrialState::kPaused) sweep.paused.insert(sweep.paused.end(), trial.index);
    if (const auto place = PlaceOf(sweep.spec, trial)) sweep.ranked.insert(*place);
  }
}

}  // namespace

std::string StateSnapshot::Layout() {
  ArchiveLayout layout;
  std::string spec;
  HeadFields(layout, static_cast<const SweepRecord&>(SweepRecord{}), spec);
  layout(TrialRecord{}, AttemptRecord{}, CheckpointRecord{}, search::Input{}, Index{}, Fleet{},
         HealthEnd{});
  return absl::StrCat("1 ", kPartTrials, " ", layout.text());
}

std::string StateSnapshot::EncodeState(const State& state, const Index& index,
                                       const WorkerHealth* health) {
  const auto& [sweeps, order, fleet, deleted] = state;
  (void)sweeps;
  std::map<std::string, std::vector<HealthEnd>> ends;
  if (health != nullptr) {
    for (const auto& [worker, of_worker] : health->workers_) {
      for (const auto& [failure, time, counts] : of_worker)
        ends[worker].push_back({failure, time, counts});
    }
  }
  ArchiveWriter writer;
  writer(index, order, fleet, deleted, ends);
  return writer.Take();
}

absl::Status StateSnapshot::DecodeState(const std::string& bytes, State& state, Index& index,
                                        WorkerHealth* health) {
  auto& [sweeps, order, fleet, deleted] = state;
  (void)sweeps;
  std::map<std::string, std::vector<HealthEnd>> ends;
  ArchiveReader reader(bytes);
  reader(index, order, fleet, deleted, ends);
  if (health != nullptr) {
    for (const auto& [worker, of_worker] : ends) {
      for (const auto& [failure, time, counts] : of_worker)
        health->workers_[worker].push_back({failure, time, counts});
    }
  }
  return reader.at_end() ? absl::OkStatus() : Damaged("its index");
}

std::string StateSnapshot::EncodePart(const SweepRecord& sweep, int part) {
  ArchiveWriter writer;
  if (part == 0) {
    std::string spec = config::ToJson(sweep.spec);
    HeadFields(writer, sweep, spec);
    return writer.Take();
  }
  const std::size_t begin = static_cast<std::size_t>(part - 1) * kPartTrials;
  const std::size_t end = std::min(begin + kPartTrials, sweep.trials.size());
  for (std::size_t i = begin; i < end; ++i) writer(sweep.trials[i]);
  return writer.Take();
}

absl::Status StateSnapshot::DecodePart(const std::string& bytes, const std::string& name,
                                       const SweepParts& parts, int part, State& state) {
  auto& [sweeps, order, fleet, deleted] = state;
  (void)order;
  (void)fleet;
  (void)deleted;
  ArchiveReader reader(bytes);
  SweepRecord& sweep = sweeps[name];
  if (part == 0) {
    std::string spec;
    HeadFields(reader, sweep, spec);
    if (!reader.at_end() || sweep.name != name || sweep.state > SweepState::kPaused)
      return Damaged(name);
    SAE_ASSIGN_OR_RETURN(sweep.spec, config::ParseSweepSpec(spec));
    sweep.trials.reserve(static_cast<std::size_t>(parts.trials));
    return absl::OkStatus();
  }
  while (reader.ok() && !reader.at_end()) reader(sweep.trials.emplace_back());
  if (!reader.ok()) return Damaged(name);
  if (part + 1 < PartsOf(parts.trials)) return absl::OkStatus();
  if (static_cast<std::int64_t>(sweep.trials.size()) != parts.trials) return Damaged(name);
  for (std::size_t i = 0; i < sweep.trials.size(); ++i) {
    const TrialRecord& trial = sweep.trials[i];
    if (trial.index != static_cast<int>(i) || trial.state < TrialState::kUnspecified ||
        trial.state > TrialState::kCancelled || trial.failure_class > FailureClass::kInternal)
      return Damaged(name);
  }
  Derive(sweep);
  return absl::OkStatus();
}

}  // namespace sae::server
