// People who pause, resume, stop, change and extend what runs.
#include "absl/strings/str_cat.h"

#include "server/sim/fault_plan.h"

namespace sae::server::sim {
namespace {

void Ask(World& world, ClientOp::Kind kind, const std::string& sweep,
         std::function<absl::Status(Core&, ClientOp&)> run) {
  ClientOp op;
  op.kind = kind;
  op.sweep = sweep;
  op.request_id = absl::StrCat("request-", world.random.Next());
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

/// Whatever is paused goes on.
void ResumeAll(World& world) {
  if (world.coordinator == nullptr || !world.coordinator->alive()) return;
  const State& state = world.coordinator->core().state();
  for (const std::string& name : state.sweep_order()) {
    const SweepRecord& sweep = *state.sweep(name);
    if (sweep.state == SweepState::kPaused) Resume(world, name);
    for (const TrialRecord& trial : sweep.trials) {
      if (trial.state == TrialState::kPaused)
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
  for (const TrialVerb verb : {TrialVerb::kPause, TrialVerb::kResume, TrialVerb::kStop}) {
    const std::string trial = TrialNameOf(static_cast<int>(world.random.Below(4)));
    at(0.2, [&world, name, verb, trial] { Change(world, verb, name, trial); });
  }
}

void PlanResumes(World& world, absl::Duration healed) {
  for (const double after : {5, 20, 40, 80, 160})
    world.queue.At(healed + absl::Seconds(after), [&world] { ResumeAll(world); });
}

}  // namespace sae::server::sim
