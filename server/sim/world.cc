#include "server/sim/world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "server/sim/fault_plan.h"
#include "server/sim/world_parts.h"

namespace sae::server::sim {
namespace {

constexpr std::size_t kMostBreaches = 20;

std::function<void(const std::string&)> Stamped(const WorldOptions& options,
                                                const EventQueue& queue) {
  if (!options.trace) return nullptr;
  return [&queue, trace = options.trace](const std::string& what) {
    trace(absl::StrCat(absl::FormatDuration(queue.Now()), " ", what));
  };
}

}  // namespace

World::World(const WorldOptions& options)
    : random(options.seed),
      network(queue, random),
      surroundings{queue, random, network, history, core_options.lease, absl::Seconds(2)},
      clients(surroundings) {
  history.seed = options.seed;
  core_options.planted = options.planted;
  core_options.prepare_timeout = absl::Seconds(4) + surroundings.Upto(absl::Seconds(20));
  core_options.cordon_bad_workers = random.Below(3) == 0;
  if (random.Below(2) == 0)
    core_options.snapshot_events = 20 + static_cast<std::int64_t>(random.Below(100));
  core_options.entropy = [this] { return random.Next(); };
  history.trial_attempts = core_options.retry.trial_attempts;
  history.worker_attempts = core_options.retry.worker_attempts;
  core_options.heartbeat = surroundings.heartbeat;
  surroundings.trace = Stamped(options, queue);
  const auto shared = std::make_shared<RunsDisk>();
  shared->runs_id = "shared";
  const auto own = std::make_shared<RunsDisk>();
  own->runs_id = "own";
  const std::uint64_t sharing = 2 + random.Below(3);
  for (std::uint64_t i = 0; i < sharing; ++i)
    AddMachine(std::string(1, static_cast<char>('a' + i)), random.Below(4) == 0 ? 3 : 2, shared,
               true);
  if (sharing > 2) may_die = machines[0].get();
  AddMachine("own", 2, own, false);
}

void World::AddMachine(const std::string& id, int slots, const std::shared_ptr<RunsDisk>& runs,
                       bool peers) {
  const double rate = 0.97 + 0.06 * random.Uniform();
  machines.push_back(std::make_unique<Machine>(
      surroundings,
      MachineOptions{id, slots, runs, peers, rate, surroundings.Upto(absl::Hours(100))}));
  surroundings.fleet[id] = machines.back().get();
}

void World::StartCoordinator() {
  CoordinatorProcess::Options options;
  options.core = core_options;
  options.clock_rate = 0.98 + 0.04 * random.Uniform();
  options.booted = surroundings.Upto(absl::Hours(100));
  options.next_fault = [this] { return NextCommitFault(); };
  coordinator = CoordinatorProcess::Start(std::move(options), queue, disk);
  network.SetCoordinator(coordinator);
  ++coordinators;
  Trace(coordinator == nullptr
            ? "the coordinator cannot start"
            : absl::StrCat("a coordinator starts, epoch ", coordinator->core().epoch()));
}

CommitFault World::NextCommitFault() {
  if (commit_faults.empty()) return CommitFault::kNone;
  const CommitFault next = commit_faults.front();
  commit_faults.pop_front();
  if (next == CommitFault::kNone) return next;
  Trace(absl::StrCat("a commit goes wrong: ", ToString(next)));
  ++history.counts[absl::StrCat("commit ", ToString(next))];
  return next;
}

void World::CheckNow() {
  std::map<std::pair<std::string, std::string>, int> live;
  for (const auto& machine : machines) {
    if (machine->Used() > machine->slots())
      breaches.push_back(absl::StrCat("I2: ", machine->id(), " uses ", machine->Used(), " slots"));
    for (const AttemptKey& key : machine->Running()) {
      const auto [it, first] = live.try_emplace({key.sweep, key.trial}, key.attempt);
      if (it->second != key.attempt)
        breaches.push_back(absl::StrCat("I1: ", ToString(key), " is the second to live at ",
                                        absl::FormatDuration(queue.Now())));
    }
  }
  if (coordinator != nullptr && coordinator->alive() && coordinator->core().refused_events() > 0)
    breaches.push_back("the state refused an event of its own log");
}

void World::RunUntil(absl::Duration end, const std::function<bool()>& done) {
  while (!queue.Empty() && queue.NextAt() <= end && breaches.empty()) {
    queue.RunNext();
    ++events;
    CheckNow();
    if (done && events % 64 == 0 && done()) return;
  }
}

bool World::AllEnded() const {
  if (coordinator == nullptr || !coordinator->alive()) return false;
  const State& state = coordinator->core().state();
  return std::all_of(state.sweep_order().begin(), state.sweep_order().end(),
                     [&](const std::string& name) { return HasEnded(state.sweep(name)->state); });
}

namespace {

/// Where two texts differ, with a little of what is around it.
std::string FirstDifference(const std::string& a, const std::string& b) {
  std::size_t at = 0;
  while (at < a.size() && at < b.size() && a[at] == b[at]) ++at;
  const std::size_t from = at < 80 ? 0 : at - 80;
  return absl::StrCat("\"", a.substr(from, 160), "\", not \"", b.substr(from, 160), "\"");
}

/// A second core over the same log must come to the same state.
void CheckReplay(World& world) {
  if (world.coordinator == nullptr || !world.coordinator->alive()) return;
  const std::string live = world.coordinator->core().state().DebugString();
  MemoryStore store(world.disk.contents);
  SimClock clock(world.queue, 1, absl::ZeroDuration());
  const auto again = Core::Start(world.core_options, clock, store);
  if (!again.ok()) {
    world.breaches.push_back(absl::StrCat("replay: ", again.status().ToString()));
  } else if ((*again)->state().DebugString() != live) {
    world.breaches.push_back(absl::StrCat("replay: the state differs from the live one: ",
                                          FirstDifference(live, (*again)->state().DebugString())));
  }
}

}  // namespace

Outcome Simulate(const WorldOptions& options) {
  World world(options);
  world.StartCoordinator();
  PlanUsers(world, options.faults);
  PlanFaults(world, options.faults);
  PlanResumes(world, options.faults);
  world.RunUntil(options.faults, nullptr);
  Heal(world);
  // What was submitted shortly before may still be on its way.
  world.RunUntil(options.faults + absl::Seconds(165), nullptr);
  world.RunUntil(options.faults + options.settle, [&] { return world.AllEnded(); });
  // Watchers see the rest.
  if (world.breaches.empty()) world.RunUntil(world.queue.Now() + absl::Seconds(30), nullptr);
  world.history.settled = true;
  world.history.log = world.disk.contents->log;
  world.history.committed = world.disk.committed;
  Outcome outcome;
  outcome.breaches = std::move(world.breaches);
  for (const std::string& breach : CheckAll(world.history)) outcome.breaches.push_back(breach);
  world.breaches.clear();
  CheckReplay(world);
  for (const std::string& breach : world.breaches) outcome.breaches.push_back(breach);
  if (outcome.breaches.size() > kMostBreaches) outcome.breaches.resize(kMostBreaches);
  outcome.events = world.events;
  outcome.took = world.queue.Now();
  outcome.attempts = static_cast<int>(world.history.processes.size());
  outcome.coordinators = world.coordinators;
  outcome.history = std::move(world.history);
  return outcome;
}

}  // namespace sae::server::sim
