// What people do in a simulated world.
#include "absl/strings/str_cat.h"

#include "server/sim/fault_plan.h"

namespace sae::server::sim {
namespace {

void Cancel(World& world, const std::string& sweep) {
  ClientOp op;
  op.kind = ClientOp::Kind::kCancel;
  op.sweep = sweep;
  world.clients.Call(op, [](Core& core, ClientOp& asked) { return core.CancelSweep(asked.sweep); });
}

void Retry(World& world, const std::string& sweep) {
  ClientOp op;
  op.kind = ClientOp::Kind::kRetry;
  op.sweep = sweep;
  op.request_id = RequestId(world);
  world.clients.Call(op, [](Core& core, ClientOp& asked) {
    auto trials = core.RetryTrials(asked.sweep, {}, asked.request_id);
    if (trials.ok()) asked.trials = *trials;
    return trials.status();
  });
}

void PlanSweep(World& world, const std::string& name, absl::Duration until) {
  Surroundings& s = world.surroundings;
  const config::SweepSpec spec = DrawSpec(world, name);
  const absl::Duration submitted = s.Upto(until / 2);
  const auto later = [&](double chance, std::function<void()> what) {
    if (s.Chance(chance)) world.queue.At(submitted + s.Upto(until - submitted), std::move(what));
  };
  world.queue.At(submitted, [&world, spec] {
    Submit(world, spec, RequestId(world));
    const std::uint64_t watchers = 1 + world.random.Below(2);
    for (std::uint64_t i = 0; i < watchers; ++i) world.clients.WatchSweep(spec.name);
  });
  // The same name by somebody else.
  later(0.1, [&world, spec] { Submit(world, spec, RequestId(world)); });
  later(0.15, [&world, name] { Cancel(world, name); });
  later(0.4, [&world, name] { Retry(world, name); });
  later(0.2, [&world, name] { Retry(world, name); });
  PlanChanges(world, name, submitted, until);
}

}  // namespace

std::string RequestId(World& world) { return absl::StrCat("request-", world.random.Next()); }

void Submit(World& world, const config::SweepSpec& spec, const std::string& request_id) {
  auto prepared = PrepareSweep(spec, 1000);
  if (!prepared.ok()) {
    world.breaches.push_back(prepared.status().ToString());
    return;
  }
  SubmitPrepared(world, *prepared, request_id);
}

void SubmitPrepared(World& world, const PreparedSweep& prepared, const std::string& request_id) {
  ClientOp op;
  op.kind = ClientOp::Kind::kSubmit;
  op.sweep = prepared.spec.name;
  op.request_id = request_id;
  op.points = prepared.event.points.size();
  world.clients.Call(op, [prepared](Core& core, ClientOp& asked) {
    return core.CreateSweep(prepared, asked.request_id);
  });
}

void PlanUsers(World& world, absl::Duration until) {
  const std::uint64_t sweeps = 1 + world.random.Below(3);
  PlanFleet(world, until);
  for (std::uint64_t i = 0; i < sweeps; ++i) PlanSweep(world, absl::StrCat("s", i), until);
}

}  // namespace sae::server::sim
