// Which sweeps people submit in a simulated world.
#include "absl/strings/str_cat.h"

#include "server/sim/fault_plan.h"

namespace sae::server::sim {
namespace {

config::Parameter Values(const std::string& path, std::vector<std::string> values) {
  config::Parameter axis;
  axis.path = path;
  axis.values = std::move(values);
  return axis;
}

void AddGrid(Random& random, config::SweepSpec& spec) {
  std::vector<std::string> values;
  for (std::uint64_t i = 0; i <= random.Below(4); ++i) values.push_back(std::to_string(4 + i));
  spec.parameters.push_back({Values("sae.k", values)});
}

/// Draws of an axis with more values than trials.
void AddDraws(Random& random, config::SweepSpec& spec, std::int64_t least) {
  config::Parameter seed;
  seed.path = "train.seed";
  seed.kind = config::Parameter::Kind::kIntUniform;
  seed.max = 1e6;
  spec.parameters.push_back({seed});
  spec.max_trials = least + static_cast<std::int64_t>(random.Below(5));
  spec.search_seed = static_cast<std::int64_t>(random.Below(1000));
}

void AddRungs(Random& random, const std::string& search, config::SweepSpec& spec) {
  AddDraws(random, spec, 4);
  spec.search = search;
  spec.pack = 0;
  spec.asha.mode = random.Below(2) == 0 ? "stop" : "promote";
  spec.asha.eta = 2;
  spec.asha.max_rungs = 3;
  if (random.Below(3) == 0) spec.constraints.push_back({"heldout.l0", "<=", 10});
}

void AddMedianStop(Random& random, config::SweepSpec& spec) {
  AddDraws(random, spec, 5);
  spec.search = "random";
  spec.pack = 0;
  spec.median_stop.enabled = true;
  spec.median_stop.grace_tokens = 3000;
  spec.median_stop.min_trials = 2;
}

/// An axis that only some points have.
void AddConditions(Random& random, config::SweepSpec& spec) {
  config::Parameter k = Values("sae.k", {"4", "6"});
  k.when = {{"sae.architecture", {"\"topk\""}}};
  spec.parameters.push_back({Values("sae.architecture", {"\"topk\"", "\"batchtopk\""}), k});
  if (random.Below(2) == 0) return;
  spec.search = "random";
  spec.max_trials = 2;
}

/// Slots that the machines of the shared disk have when the largest of those that may die is gone.
std::int64_t SharedSlots(const World& world) {
  int sum = 0;
  for (const auto& machine : world.machines) sum += machine->peers() ? machine->slots() : 0;
  return world.may_die != nullptr ? sum - world.may_die->slots() : sum;
}

void DrawTerms(World& world, config::SweepSpec& spec) {
  Random& random = world.random;
  spec.max_concurrent = random.Below(3) == 0 ? 1 + static_cast<std::int64_t>(random.Below(3)) : 0;
  spec.priority = static_cast<std::int64_t>(random.Below(3)) * 40;
  if (random.Below(2) == 0) spec.queue = random.Below(2) == 0 ? "batch" : "small";
  spec.grace_seconds = 10;
  if (random.Below(8) == 0) spec.retry.push_back({{"NODE_LOST"}, -1, true});
}

}  // namespace

config::SweepSpec DrawSpec(World& world, const std::string& name) {
  Random& random = world.random;
  config::SweepSpec spec;
  spec.name = name;
  spec.store = "/data/store";
  spec.store_hash = "xxh3:0123456789abcdef";
  spec.store_d = 64;
  spec.trial.ranks = 1 + static_cast<std::int64_t>(random.Below(2));
  spec.trial.sae.architecture = "topk";
  spec.trial.sae.latents = 960;  // ranks divide it
  spec.trial.sae.k = 8;
  spec.trial.train.tokens = 12e3;
  spec.trial.train.batch = 1000;
  spec.pack = static_cast<std::int64_t>(random.Below(4));
  DrawTerms(world, spec);
  const std::int64_t most = std::min<std::int64_t>(SharedSlots(world), kMostRanks);
  const std::uint64_t kind = random.Below(12);
  if (kind < 4 || (kind < 7 && most < 3)) {
    AddGrid(random, spec);
  } else if (kind < 7) {  // a gang that needs several machines, for most of them are too small
    spec.trial.ranks =
        3 + static_cast<std::int64_t>(random.Below(static_cast<std::uint64_t>(most - 2)));
    spec.pack = 1;
    AddGrid(random, spec);
  } else if (kind < 9) {
    AddRungs(random, "asha", spec);
  } else if (kind == 9) {
    AddRungs(random, "hyperband", spec);
  } else if (kind == 10) {
    AddMedianStop(random, spec);
  } else {
    AddConditions(random, spec);
  }
  return spec;
}

}  // namespace sae::server::sim
