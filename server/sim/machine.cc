// The machine's processes and what befalls them.
#include "server/sim/machine.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sae::server::sim {
using config::EventKind;

namespace {
constexpr int kKilled = 137;
constexpr int kYielded = 75;
constexpr std::int64_t kCheckpointEvery = 3;
constexpr std::int64_t kEvaluateEvery = 3;

/// Each trial has its own limit, from above; some values are no numbers, some trials not feasible.
std::map<std::string, double> ValuesOf(const AttemptKey& key, std::int64_t step) {
  int trial = 0;
  if (!absl::SimpleAtoi(key.trial, &trial)) return {};
  const double value = trial * 37 % 101 / 101.0 + 1.0 / static_cast<double>(step + 1);
  return {{"heldout.fvu", (trial * 7 + step) % 29 == 0 ? std::nan("") : value},
          {"heldout.l0", trial % 4 == 1 ? 12.0 : 8.0}};
}
}  // namespace

Machine::Machine(Surroundings& world, MachineOptions options)
    : world_(world),
      id_(std::move(options.id)),
      slots_(options.slots),
      peers_(options.peers),
      disk_(std::move(options.disk)),
      clock_rate_(options.clock_rate),
      booted_(options.booted) {
  world_.history.slots[id_] = slots_;
  StartDaemon(false);
}

int Machine::Used() const {
  int used = 0;
  std::set<AttemptKey> gangs;
  for (const auto& [key, life] : lives_)
    used += life.running && gangs.insert(life.gang).second ? life.slots : 0;
  for (const auto& [key, held] : held_) used += held.slots;
  return used;
}

std::vector<AttemptKey> Machine::Running() const {
  std::vector<AttemptKey> out;
  for (const auto& [key, life] : lives_) {
    if (life.running) out.push_back(key);
  }
  for (const auto& [key, held] : held_) {
    if (held.head != nullptr) out.push_back(key);
  }
  return out;
}

void Machine::Say(const AttemptKey& key, Life& life, EventKind kind, std::int64_t from_step) {
  config::Event event;
  std::vector<std::string>& lines = Lines(key);
  event.seq = static_cast<std::int64_t>(lines.size()) + 1;
  event.kind = kind;
  event.step = life.step;
  event.tokens = life.step * 1000;
  event.from_step = from_step;
  if (kind == EventKind::kEvaluation) event.values = ValuesOf(key, life.step);
  if (kind == EventKind::kMetrics)
    event.values["train.loss"] = 1.0 / static_cast<double>(life.step + 1);
  if (kind == EventKind::kCheckpoint) event.checkpoint = absl::StrCat("step-", life.step);
  if (kind == EventKind::kFailed) event.message = "it broke";
  lines.push_back(config::ToJsonLine(event));
  if (!config::IsVerdict(kind)) return;
  life.verdict = config::ToString(kind);
  End(key, life, kind == EventKind::kFinished ? 0 : kind == EventKind::kYielded ? kYielded : 1);
}

void Machine::End(const AttemptKey& key, Life& life, int exit_code) {
  if (!life.running) return;
  life.running = false;
  life.exit_code = exit_code;
  world_.history.processes[life.history].end = world_.queue.Now();
  Trace(absl::StrCat(ToString(key), " ended, exit code ", exit_code, " ", life.verdict));
  EndPeers(key, life);
}

void Machine::StepLater(const AttemptKey& key) {
  const Life& life = lives_.at(key);
  const double times = life.peers.empty() ? 1 : world_.far;
  world_.queue.After((absl::Milliseconds(400) + world_.Upto(absl::Milliseconds(800))) * times,
                     [this, key, of = life.history] { Step(key, of); });
}

void Machine::Begin(const AttemptKey& key, Life& life) {
  Say(key, life, EventKind::kStarted, life.step);
  if (life.step >= world_.steps) Say(key, life, EventKind::kFinished);
  if (life.running) StepLater(key);
}

void Machine::Step(const AttemptKey& key, std::size_t of) {
  const auto it = lives_.find(key);
  if (it == lives_.end() || !it->second.running || it->second.history != of) return;
  Life& life = it->second;
  // Rank 0 looks at the lease itself, and a hung one is not left alone with it.
  if (Local() > life.lease_until && !life.hung) {
    Say(key, life, EventKind::kYielded);
  } else if (life.hung && (!up_ || world_.queue.Now() < paused_until_)) {
    // Nothing would end a hung one whose daemon is not there: one fault too many.
    life.hung = false;
  } else if (!life.hung) {
    Train(key, life);
  }
  if (life.running) StepLater(key);
}

void Machine::Train(const AttemptKey& key, Life& life) {
  if (life.noticed) {
    disk_->checkpoints[{key.sweep, key.trial}] = life.step;
    if (life.step > 0 && life.step % kCheckpointEvery != 0) Say(key, life, EventKind::kCheckpoint);
    return Say(key, life, EventKind::kYielded);
  }
  ++life.step;
  Say(key, life, EventKind::kMetrics);
  if (life.step % kCheckpointEvery == 0 || life.step >= world_.steps) {
    disk_->checkpoints[{key.sweep, key.trial}] = life.step;
    Say(key, life, EventKind::kCheckpoint);
  }
  if (life.step % kEvaluateEvery == 0) Say(key, life, EventKind::kEvaluation);
  if (life.step >= world_.steps) return Say(key, life, EventKind::kFinished);
  if (world_.Chance(world_.die)) return KillGang();
  if (world_.Chance(world_.fail)) return Say(key, life, EventKind::kFailed);
  if (world_.Chance(world_.hang)) {
    life.hung = true;
    life.hung_since = Local();
  }
}

void Machine::KillGang() {
  const auto victim =
      std::find_if(lives_.begin(), lives_.end(), [](const auto& l) { return l.second.running; });
  if (victim == lives_.end()) {
    const auto part = std::find_if(held_.begin(), held_.end(),
                                   [](const auto& h) { return h.second.head != nullptr; });
    if (part == held_.end()) return;
    Machine* head = part->second.head;
    const AttemptKey key = part->first;
    EndPart(key);
    head->LosePeer(key, this);
    return;
  }
  const AttemptKey gang = victim->second.gang;
  for (auto& [key, life] : lives_) {
    if (!life.running || life.gang != gang) continue;
    life.failure_class = FailureClass::kOomHost;
    End(key, life, kKilled);
  }
}

void Machine::CrashDaemon() {
  if (!up_) return;
  Trace("the daemon crashes");
  up_ = registered_ = false;
  ++session_;
  EndAllHeld();  // a guard ends what ran here for others
}

void Machine::StartDaemon(bool adopts) {
  if (dead_ || up_) return;
  up_ = true;
  ++incarnation_;
  registered_ = false;
  epoch_ = 0;
  entries_.clear();
  closed_.clear();
  lease_from_ = -absl::InfiniteDuration();
  register_sent_ = -absl::InfiniteDuration();
  Trace(absl::StrCat("the daemon starts, incarnation ", incarnation_));
  // What nothing tells of is ended; so is what it does not go on with.
  for (auto& [key, life] : lives_) {
    if (!life.running || (adopts && open_.contains(key))) continue;
    life.failure_class = FailureClass::kNodeLost;
    End(key, life, kKilled);
  }
  for (const AttemptKey& key : open_) {
    Entry& entry = entries_[key];
    entry.starting_told = true;
    if (lives_.contains(key)) continue;
    Life gone;  // before the machine was rebooted
    gone.running = false;
    gone.exit_code = kKilled;
    gone.failure_class = FailureClass::kNodeLost;
    for (const std::string& line : Lines(key)) {
      const auto event = config::ParseEvent(line);
      if (event.ok() && config::IsVerdict(event->kind))
        gone.verdict = config::ToString(event->kind);
    }
    lives_[key] = gone;
  }
  TickLater();
}

void Machine::Reboot() {
  if (dead_) return;
  Trace("reboots");
  CrashDaemon();
  powered_ = false;
  for (auto& [key, life] : lives_) End(key, life, kKilled);
  powered_ = true;
  lives_.clear();
  ++boots_;
}

void Machine::Die() {
  Trace("dies");
  Reboot();
  dead_ = true;
}

void Machine::LoseRecords() {
  if (up_) return;
  Trace("loses its records");
  for (const AttemptKey& key : open_) disk_->attempts.erase(key);
  open_.clear();
}

}  // namespace sae::server::sim
