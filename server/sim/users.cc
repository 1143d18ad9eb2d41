// What people do in a simulated world.
#include "absl/strings/str_cat.h"

#include "server/sim/fault_plan.h"

namespace sae::server::sim {
namespace {

config::SweepSpec DrawSpec(World& world, const std::string& name) {
  Random& random = world.random;
  config::SweepSpec spec;
  spec.name = name;
  spec.store = "/data/store";
  spec.store_hash = "xxh3:0123456789abcdef";
  spec.store_d = 64;
  spec.trial.ranks = 1 + static_cast<std::int64_t>(random.Below(2));
  spec.trial.sae.architecture = "topk";
  spec.trial.sae.latents = 1024;
  spec.trial.sae.k = 8;
  spec.trial.train.tokens = 12e3;
  spec.trial.train.batch = 1000;
  spec.pack = static_cast<std::int64_t>(random.Below(4));
  spec.max_concurrent = random.Below(3) == 0 ? 1 + static_cast<std::int64_t>(random.Below(3)) : 0;
  config::Parameter k;
  k.path = "sae.k";
  for (std::uint64_t i = 0; i <= random.Below(4); ++i) k.values.push_back(std::to_string(4 + i));
  spec.parameters.push_back({k});
  return spec;
}

std::string RequestId(World& world) { return absl::StrCat("request-", world.random.Next()); }

void Submit(World& world, const config::SweepSpec& spec, const std::string& request_id) {
  auto prepared = PrepareSweep(spec, 1000);
  if (!prepared.ok()) {
    world.breaches.push_back(prepared.status().ToString());
    return;
  }
  ClientOp op;
  op.kind = ClientOp::Kind::kSubmit;
  op.sweep = spec.name;
  op.request_id = request_id;
  op.points = prepared->event.points.size();
  world.clients.Call(op, [prepared = *std::move(prepared)](Core& core, ClientOp& asked) {
    return core.CreateSweep(prepared, asked.request_id);
  });
}

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

void PlanUsers(World& world, absl::Duration until) {
  const std::uint64_t sweeps = 1 + world.random.Below(3);
  for (std::uint64_t i = 0; i < sweeps; ++i) PlanSweep(world, absl::StrCat("s", i), until);
}

}  // namespace sae::server::sim
