// People who pause, resume, stop, change and extend what runs.
#include "absl/strings/str_cat.h"

#include "server/core/state_search.h"
#include "server/sim/fault_plan.h"

namespace sae::server::sim {
namespace {

void Ask(World& world, ClientOp::Kind kind, const std::string& sweep,
         std::function<absl::Status(Core&, ClientOp&)> run) {
  ClientOp op;
  op.kind = kind;
  op.sweep = sweep;
  op.request_id = RequestId(world);
  world.clients.Call(op, std::move(run));
}

void Pause(World& world, const std::string& sweep) {
  Ask(world, ClientOp::Kind::kPause, sweep,
      [](Core& core, ClientOp& op) { return core.PauseSweep(op.sweep, op.request_id); });
}

void Resume(World& world, const std::string& sweep) {
  Ask(world, ClientOp::Kind::kResume, sweep,
      [](Core& core, ClientOp& op) { return core.ResumeSweep(op.sweep, op.request_id); });
}

void Change(World& world, TrialVerb verb, const std::string& sweep, const std::string& trial) {
  Ask(world, ClientOp::Kind::kOther, sweep, [verb, trial](Core& core, ClientOp& op) {
    return core.ChangeTrial(verb, op.sweep, trial, op.request_id);
  });
}

void Update(World& world, const std::string& sweep) {
  SweepUpdated update;
  update.priority = static_cast<std::int64_t>(world.random.Below(100));
  update.max_concurrent = static_cast<std::int64_t>(world.random.Below(4));
  if (world.random.Below(3) == 0) update.queue = world.random.Below(2) == 0 ? "small" : "default";
  Ask(world, ClientOp::Kind::kUpdate, sweep, [update](Core& core, ClientOp& op) {
    return core.UpdateSweep(op.sweep, update, "", op.request_id);
  });
}

void AddPoint(World& world, const std::string& sweep) {
  const std::string k = std::to_string(20 + world.random.Below(40));
  Ask(world, ClientOp::Kind::kOther, sweep, [k](Core& core, ClientOp& op) {
    return core.AddPoints(op.sweep, {{{"sae.k", k}}}, 1000, op.request_id).status();
  });
}

void GracefulCancel(World& world, const std::string& sweep) {
  Ask(world, ClientOp::Kind::kOther, sweep,
      [](Core& core, ClientOp& op) { return core.CancelSweep(op.sweep, true, op.request_id); });
}

void Delete(World& world, const std::string& sweep) {
  Ask(world, ClientOp::Kind::kOther, sweep,
      [](Core& core, ClientOp& op) { return core.DeleteSweep(op.sweep, op.request_id); });
}

/// A new sweep that begins from what some trial of this one has saved.
void Fork(World& world, const std::string& sweep) {
  if (world.coordinator == nullptr || !world.coordinator->alive()) return;
  const SweepRecord* source = world.coordinator->core().state().sweep(sweep);
  if (source == nullptr) return;
  for (const TrialRecord& trial : source->trials) {
    if (trial.checkpoints.empty()) continue;
    const CheckpointRecord& from = trial.checkpoints.back();
    config::SweepSpec spec = source->spec;
    spec.name = absl::StrCat("fork-of-", sweep);
    spec.parameters.clear();
    spec.search = "grid";
    spec.max_trials = 0;
    spec.median_stop = {};
    auto prepared = PrepareSweep(spec, 1);
    if (!prepared.ok()) return world.breaches.push_back(prepared.status().ToString());
    prepared->event.forked_from =
        absl::StrCat(sweep, "/", TrialNameOf(trial.index), "/", from.name);
    prepared->event.fork_runs_id = trial.attempt(from.attempt)->runs_id;
    ++world.history.counts["fork"];
    return SubmitPrepared(world, *prepared, RequestId(world));
  }
}

void SetQueue(World& world, const std::string& queue, std::int64_t quota) {
  const double weight = 1 + static_cast<double>(world.random.Below(3));
  Ask(world, ClientOp::Kind::kOther, "", [queue, quota, weight](Core& core, ClientOp& op) {
    return core.UpdateQueue(queue, {quota, weight}, op.request_id);
  });
}

void Cordon(World& world, const std::string& worker, bool drain) {
  Ask(world, ClientOp::Kind::kOther, "", [worker, drain](Core& core, ClientOp& op) {
    return core.CordonWorker(worker, "", drain, op.request_id);
  });
}

void Uncordon(World& world, const std::string& worker) {
  Ask(world, ClientOp::Kind::kOther, "",
      [worker](Core& core, ClientOp& op) { return core.UncordonWorker(worker, op.request_id); });
}

/// Whatever is paused goes on, and nothing is held back.
void ResumeAll(World& world) {
  if (world.coordinator == nullptr || !world.coordinator->alive()) return;
  const State& state = world.coordinator->core().state();
  for (const auto& [worker, cordon] : state.fleet().cordons) Uncordon(world, worker);
  for (const auto& [queue, terms] : state.fleet().queues) {
    if (terms.quota_slots > 0 && terms.quota_slots < kMostRanks) SetQueue(world, queue, kMostRanks);
  }
  for (const std::string& name : state.sweep_order()) {
    const SweepRecord& sweep = *state.sweep(name);
    if (sweep.state == SweepState::kPaused) Resume(world, name);
    for (const TrialRecord& trial : sweep.trials) {
      if (trial.state == TrialState::kPaused && !HeldBySearch(trial))
        Change(world, TrialVerb::kResume, name, TrialNameOf(trial.index));
    }
  }
}

}  // namespace

void PlanChanges(World& world, const std::string& name, absl::Duration from, absl::Duration until) {
  Surroundings& s = world.surroundings;
  const auto at = [&](double chance, std::function<void()> what) {
    if (s.Chance(chance)) world.queue.At(from + s.Upto(until - from), std::move(what));
  };
  at(0.25, [&world, name] { Pause(world, name); });
  at(0.25, [&world, name] { Resume(world, name); });
  at(0.2, [&world, name] { Update(world, name); });
  at(0.15, [&world, name] { AddPoint(world, name); });
  at(0.05, [&world, name] { GracefulCancel(world, name); });
  at(0.15, [&world, name] { Fork(world, name); });
  at(0.1, [&world, name] { Delete(world, name); });
  for (const TrialVerb verb :
       {TrialVerb::kPause, TrialVerb::kResume, TrialVerb::kStop, TrialVerb::kPromote}) {
    const std::string trial = TrialNameOf(static_cast<int>(world.random.Below(4)));
    at(0.2, [&world, name, verb, trial] { Change(world, verb, name, trial); });
  }
}

void PlanFleet(World& world, absl::Duration until) {
  Surroundings& s = world.surroundings;
  Random& random = world.random;
  const auto at = [&](double chance, std::function<void()> what) {
    if (s.Chance(chance)) world.queue.At(absl::Seconds(5) + s.Upto(until - absl::Seconds(5)), what);
  };
  for (const char* queue : {"batch", "small"}) {
    const auto quota = static_cast<std::int64_t>(random.Below(5));
    world.queue.At(absl::Seconds(1.5), [&world, queue, quota] { SetQueue(world, queue, quota); });
    const auto later = 1 + static_cast<std::int64_t>(random.Below(4));
    at(0.2, [&world, queue, later] { SetQueue(world, queue, later); });
  }
  for (const auto& machine : world.machines) {
    const std::string id = machine->id();
    const bool drain = random.Below(2) == 0;
    at(0.15, [&world, id, drain] { Cordon(world, id, drain); });
    at(0.15, [&world, id] { Uncordon(world, id); });
  }
}

void PlanResumes(World& world, absl::Duration healed) {
  for (const double after : {5, 20, 40, 80, 160})
    world.queue.At(healed + absl::Seconds(after), [&world] { ResumeAll(world); });
}

}  // namespace sae::server::sim
