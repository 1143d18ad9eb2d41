// The daemon: carries out commands, watches its processes, keeps to its lease.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "server/sim/machine.h"

namespace sae::server::sim {
using config::EventKind;

namespace {
constexpr double kNoticeShare = 0.6;  // as worker/agent/lease.h
constexpr double kKillShare = 0.8;
constexpr absl::Duration kTick = absl::Milliseconds(500);
constexpr absl::Duration kOwnGrace = absl::Seconds(20);
constexpr absl::Duration kHungTooLong = absl::Seconds(20);

/// Slots of this machine that it takes.
int NeedHere(const StartCommand& command) {
  return command.hosts.empty() ? command.slots : command.hosts[0].slots;
}

/// Of ".../step-6"; 0 of none.
std::int64_t StepOf(const std::string& checkpoint) {
  std::int64_t step = 0;
  const std::size_t at = checkpoint.rfind("step-");
  return at != std::string::npos && absl::SimpleAtoi(checkpoint.substr(at + 5), &step) ? step : 0;
}
}  // namespace

void Machine::TickLater() {
  world_.queue.After(kTick, [this, incarnation = incarnation_] {
    if (!up_ || incarnation != incarnation_) return;
    if (world_.queue.Now() >= paused_until_) Tick();
    TickLater();
  });
}

void Machine::Tick() {
  WatchProcesses();
  if (!registered_) return Register();
  if (Local() - last_answer_ > 2.5 * world_.heartbeat) return Reregister();
  if (Local() >= next_heartbeat_) Heartbeat();
  for (auto& [key, entry] : entries_) Report(key, entry);
}

void Machine::WatchProcesses() {
  const absl::Duration now = Local();
  const absl::Duration notice = lease_from_ + kNoticeShare * world_.lease;
  const absl::Duration kill = lease_from_ + kKillShare * world_.lease;
  for (auto& [key, life] : lives_) {
    if (!life.running) continue;
    const bool known = lease_from_ != -absl::InfiniteDuration();
    if (known) life.lease_until = std::max(life.lease_until, notice);
    if (known && now >= notice) life.noticed = true;
    const bool hung = life.hung && now - life.hung_since > kHungTooLong;
    if (!(known && now >= kill) && now < life.kill_at && !hung) continue;
    if (hung) life.failure_class = FailureClass::kHang;
    End(key, life, 137);
  }
  if (lease_from_ != -absl::InfiniteDuration() && now >= notice) NoticeHeads();
  if (lease_from_ != -absl::InfiniteDuration() && now >= kill) EndAllHeld();
  // What the coordinator has given up is forgotten once it is gone.
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto life = lives_.find(it->first);
    const bool gone = life == lives_.end() || !life->second.running;
    const AttemptKey key = it->first;
    const bool close = it->second.unwanted && gone;
    ++it;
    if (close) Close(key);
  }
}

void Machine::Close(const AttemptKey& key) {
  entries_.erase(key);
  open_.erase(key);
  closed_.insert(key);
}

void Machine::Handle(const Command& command) {
  if (const auto* start = std::get_if<StartCommand>(&command)) Start(*start);
  if (const auto* stop = std::get_if<StopCommand>(&command)) Stop(*stop);
  if (const auto* prepare = std::get_if<PrepareCommand>(&command)) Prepare(*prepare);
  if (const auto* release = std::get_if<ReleaseCommand>(&command)) Release(*release);
}

void Machine::Start(const StartCommand& command) {
  if (Local() >= lease_from_ + kNoticeShare * world_.lease) return;  // it would end at once
  // Sent again, perhaps: then only what is new of it starts.
  std::vector<const StartCommand*> fresh;
  const auto add = [&](const StartCommand& one) {
    const auto entry = entries_.find(one.key);
    const bool known = entry != entries_.end() && !entry->second.foreign;
    if (!known && !closed_.contains(one.key)) fresh.push_back(&one);
  };
  add(command);
  for (const StartCommand& other : command.with) add(other);
  if (fresh.empty()) return;
  held_.erase(command.key);  // the head's own part becomes the gang
  const bool fits = Used() + NeedHere(command) <= slots_;
  for (const StartCommand* one : fresh) StartOne(*one, fresh[0]->key, fits);
}

void Machine::StartOne(const StartCommand& command, const AttemptKey& gang, bool fits) {
  const AttemptKey& key = command.key;
  Entry entry;
  const bool ran = disk_->attempts.contains(key);
  if (!fits || ran) {
    entry.refused = true;
    entry.reason = ran ? "it has run before" : "no free slots";
    Trace(absl::StrCat("refuses ", ToString(key), ": ", entry.reason));
    entries_[key] = entry;
    return;
  }
  EndOlder(key);
  entries_[key] = entry;
  open_.insert(key);
  disk_->attempts.insert(key);
  Lines(key).clear();
  Life life;
  life.slots = NeedHere(command);
  life.gang = gang;
  life.lease_until = lease_from_ + kNoticeShare * world_.lease;
  life.step = std::max(disk_->checkpoints[{key.sweep, key.trial}], StepOf(command.from_checkpoint));
  life.history = world_.history.processes.size();
  world_.history.processes.push_back({key, id_, absl::StrCat(id_, " ", ToString(gang)), life.slots,
                                      world_.queue.Now(), absl::InfiniteDuration()});
  Trace(absl::StrCat("starts ", ToString(key), " at step ", life.step));
  Life& kept = lives_[key] = life;
  if (command.hosts.empty()) return Begin(key, kept);
  world_.queue.After(absl::Milliseconds(20) + world_.Upto(absl::Milliseconds(200)),
                     [this, command, of = life.history] { Join(command.key, of, command); });
}

/// The coordinator gave the trial to a new attempt, so older ones have lost their lease; what their
/// worker could not report of them is told by this one.
void Machine::EndOlder(const AttemptKey& key) {
  for (AttemptKey older{key.sweep, key.trial, 1}; older.attempt < key.attempt; ++older.attempt) {
    if (const auto life = lives_.find(older); life != lives_.end()) End(older, life->second, 137);
    if (!disk_->attempts.contains(older)) continue;
    open_.erase(older);
    Entry entry;
    entry.foreign = true;
    entries_[older] = entry;
  }
}

void Machine::Stop(const StopCommand& command) {
  const auto entry = entries_.find(command.key);
  const auto life = lives_.find(command.key);
  if (entry == entries_.end() || entry->second.foreign) return SayNothing(command.key);
  if (life == lives_.end() || !life->second.running) return;
  Trace(absl::StrCat("stops ", ToString(command.key), ": ", command.reason));
  if (command.checkpoint && life->second.step > 0) {
    life->second.noticed = true;
    const bool said = command.grace > absl::ZeroDuration();
    life->second.kill_at =
        std::min(life->second.kill_at, Local() + (said ? command.grace : kOwnGrace));
  } else {
    End(command.key, life->second, 137);
  }
}

}  // namespace sae::server::sim
