#include "server/sim/fault_plan.h"

#include "absl/strings/str_cat.h"

namespace sae::server::sim {
namespace {

struct Fault {
  const char* name;
  void (*run)(World&);
};

Machine& SomeMachine(World& world) {
  return *world.machines[world.random.Below(world.machines.size())];
}

Link& SomeLink(World& world) {
  const std::uint64_t n = world.random.Below(world.machines.size() + 1);
  return n == world.machines.size() ? world.clients.link() : world.machines[n]->link();
}

absl::Duration Seconds(World& world, double least, double most) {
  return absl::Seconds(least + (most - least) * world.random.Uniform());
}

void StartSoon(World& world, absl::Duration after) {
  world.queue.After(after, [&world] {
    if (world.coordinator == nullptr || !world.coordinator->alive()) world.StartCoordinator();
  });
}

void KillCoordinator(World& world) {
  if (world.coordinator != nullptr) world.coordinator->Kill();
  world.Trace("the coordinator is killed");
  StartSoon(world, Seconds(world, 0.5, 25));
}

void KillAtCommit(World& world) {
  world.commit_faults.assign(world.random.Below(4), CommitFault::kNone);
  world.commit_faults.push_back(world.surroundings.Chance(0.5) ? CommitFault::kDiesBefore
                                                               : CommitFault::kDiesAfter);
  // Whoever finds it dead starts it again.
  for (const double after : {5.0, 12.0, 30.0}) StartSoon(world, Seconds(world, 1, after));
}

void FailingDisk(World& world) {
  for (std::uint64_t n = world.random.Below(8) + 1; n > 0; --n) {
    world.commit_faults.push_back(world.surroundings.Chance(0.3) ? CommitFault::kNone
                                                                 : CommitFault::kFails);
  }
}

/// What was written is there, and nobody can say so.
void DoubtfulDisk(World& world) {
  for (std::uint64_t n = world.random.Below(4) + 1; n > 0; --n) {
    world.commit_faults.push_back(world.surroundings.Chance(0.5) ? CommitFault::kNone
                                                                 : CommitFault::kUnknown);
  }
}

/// The process stands still in a commit, and the rest of the world does not.
void SlowDisk(World& world) {
  if (world.coordinator != nullptr)
    world.coordinator->FreezeUntil(world.queue.Now() + Seconds(world, 0.2, 8));
}

/// SIGSTOP to the coordinator, a second one starts, the first goes on beside it.
void TwoCoordinators(World& world) {
  const auto old = world.coordinator;
  if (old == nullptr || !old->alive()) return;
  const absl::Duration stopped = Seconds(world, 1, 30);
  world.Trace("the coordinator is stopped");
  old->FreezeUntil(world.queue.Now() + stopped);
  for (const auto& machine : world.machines) {
    if (world.surroundings.Chance(0.5)) machine->link().stuck_to = old;
  }
  if (world.surroundings.Chance(0.5)) world.clients.link().stuck_to = old;
  world.queue.After(Seconds(world, 0.5, 20), [&world, old] {
    if (world.coordinator == old) world.StartCoordinator();
  });
  world.queue.After(stopped + Seconds(world, 1, 30), [old] { old->Kill(); });
}

void CrashDaemon(World& world) {
  Machine& machine = SomeMachine(world);
  machine.CrashDaemon();
  const bool adopts = world.surroundings.Chance(0.7);
  if (world.surroundings.Chance(0.1)) machine.LoseRecords();
  world.queue.After(Seconds(world, 0.2, 25), [&machine, adopts] { machine.StartDaemon(adopts); });
}

void RebootMachine(World& world) {
  Machine& machine = SomeMachine(world);
  machine.Reboot();
  if (world.surroundings.Chance(0.1)) machine.LoseRecords();
  world.queue.After(Seconds(world, 2, 40), [&machine] { machine.StartDaemon(false); });
}

void PauseDaemon(World& world) {
  SomeMachine(world).PauseDaemon(world.queue.Now() + Seconds(world, 1, 30));
}

/// Its lease runs out while the head of its gang cannot hear of that.
void PeerFallsSilent(World& world) {
  for (const auto& machine : world.machines) {
    Machine* head = machine->HeadElsewhere();
    if (head == nullptr) continue;
    machine->PauseDaemon(world.queue.Now() + Seconds(world, 25, 40));
    Link& link = head->link();
    world.queue.After(Seconds(world, 12, 17), [&link] { link.down = false; });
    world.queue.After(Seconds(world, 25, 30), [&link] { link.down = true; });
    ++world.history.counts["peer falls silent"];
    return;
  }
  // Nothing trains over several machines now: soon, perhaps.
  if (world.queue.Now() < absl::Seconds(60))
    world.queue.After(absl::Seconds(3), [&world] { PeerFallsSilent(world); });
}

/// Only one whose runs folder another one shares.
void MachineDies(World& world) {
  if (world.may_die != nullptr && world.surroundings.Chance(0.3)) world.may_die->Die();
}

void CutLink(World& world) {
  Link& link = SomeLink(world);
  const double kind = world.random.Uniform();
  if (kind < 0.66) link.up = false;
  if (kind > 0.33) link.down = false;
  world.queue.After(Seconds(world, 0.5, 40), [&link] { link.up = link.down = true; });
}

void LossyLink(World& world) {
  Link& link = SomeLink(world);
  link.loss = world.random.Uniform() * 0.6;
  link.repeat = world.random.Uniform() * 0.5;
  world.queue.After(Seconds(world, 1, 30), [&link] { link.loss = link.repeat = 0; });
}

void SlowLink(World& world) {
  Link& link = SomeLink(world);
  link.slow = Seconds(world, 0.1, 20);
  world.queue.After(Seconds(world, 1, 30), [&link] { link.slow = absl::ZeroDuration(); });
}

void JumpClock(World& world) {
  if (world.coordinator != nullptr)
    world.coordinator->clock().JumpWall(absl::Hours(2 * world.random.Uniform() - 1));
}

void KillGang(World& world) { SomeMachine(world).KillGang(); }

constexpr Fault kFaults[] = {{"kill coordinator", KillCoordinator},
                             {"kill at commit", KillAtCommit},
                             {"failing disk", FailingDisk},
                             {"doubtful disk", DoubtfulDisk},
                             {"slow disk", SlowDisk},
                             {"two coordinators", TwoCoordinators},
                             {"crash daemon", CrashDaemon},
                             {"reboot machine", RebootMachine},
                             {"pause daemon", PauseDaemon},
                             {"peer falls silent", PeerFallsSilent},
                             {"machine dies", MachineDies},
                             {"cut link", CutLink},
                             {"lossy link", LossyLink},
                             {"slow link", SlowLink},
                             {"jump clock", JumpClock},
                             {"kill gang", KillGang}};

}  // namespace

void PlanFaults(World& world, absl::Duration until) {
  Random& random = world.random;
  Surroundings& s = world.surroundings;
  if (s.Chance(0.5)) s.far = 4;
  if (s.Chance(0.4)) s.refuse = 0.3 * random.Uniform();
  if (s.Chance(0.4)) s.unreachable = 0.3 * random.Uniform();
  std::vector<Fault> kinds;
  const double share = 0.15 + 0.6 * random.Uniform();
  for (const Fault& fault : kFaults) {
    if (s.Chance(share)) kinds.push_back(fault);
  }
  if (s.Chance(0.5)) s.die = 0.02 * random.Uniform();
  if (s.Chance(0.3)) s.fail = 0.02 * random.Uniform();
  if (s.Chance(0.3)) s.hang = 0.03 * random.Uniform();
  if (kinds.empty()) return;
  const std::uint64_t count = 1 + random.Below(14);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Fault fault = kinds[random.Below(kinds.size())];
    world.queue.At(absl::Seconds(3) + s.Upto(until - absl::Seconds(5)), [&world, fault] {
      ++world.history.counts[absl::StrCat("fault ", fault.name)];
      fault.run(world);
    });
  }
}

void Heal(World& world) {
  world.Trace("the faults end");
  Surroundings& s = world.surroundings;
  s.die = s.fail = s.hang = s.refuse = s.unreachable = 0;
  world.commit_faults.clear();
  world.clients.link() = {};
  for (const auto& machine : world.machines) {
    machine->link() = {};
    machine->StartDaemon(true);
  }
  if (world.coordinator == nullptr || !world.coordinator->alive()) world.StartCoordinator();
}

}  // namespace sae::server::sim
