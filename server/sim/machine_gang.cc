// The machine's part in gangs over several workers: slots held for them, what the head's ranks run
// here, and how each ends. The rules are those of worker/agent/agent_gangs.cc and peer_service.h.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "server/sim/machine.h"

namespace sae::server::sim {
using config::EventKind;

namespace {
constexpr int kCannotStart = 1;
/// A head that is gone with its machine is noticed after so long; no machine boots faster.
constexpr absl::Duration kNoticed = absl::Milliseconds(1500);
}  // namespace

void Machine::Prepare(const PrepareCommand& command) {
  const AttemptKey& key = command.key;
  if (entries_.contains(key) || closed_.contains(key) || held_.contains(key)) return;
  const int free = slots_ - Used();
  const bool broken = world_.Chance(world_.refuse);
  if (command.slots > free || broken) {
    Entry entry;
    entry.refused = true;
    entry.reason = broken ? "its store is not here" : "no free slots";
    entries_[key] = entry;
    Trace(absl::StrCat("does not prepare ", ToString(key), ": ", entry.reason));
    ++world_.history.counts["gang part refused"];
    return;
  }
  Held held;
  held.slots = command.slots;
  held.token = command.token;
  held.status_id = ++status_ids_;
  held_[key] = held;
  world_.history.reservations.push_back({key, id_, world_.queue.Now()});
  Trace(absl::StrCat("holds ", command.slots, " slots for ", ToString(key)));
}

void Machine::Release(const ReleaseCommand& command) {
  const AttemptKey& key = command.key;
  const auto life = lives_.find(key);
  const auto entry = entries_.find(key);
  const bool own = entry != entries_.end() && !entry->second.nothing && !entry->second.refused;
  if (own && !entry->second.foreign && life != lives_.end()) {
    End(key, life->second, 137);
  } else if (held_.contains(key)) {
    EndHeld(key);
    SayNothing(key);
  } else if (entry == entries_.end()) {
    SayNothing(key);
  }
}

/// The coordinator waits for its end; there is nothing left that could end.
void Machine::SayNothing(const AttemptKey& key, FailureClass failure) {
  Entry nothing;
  nothing.nothing = true;
  nothing.failure_class = failure;
  entries_[key] = nothing;
}

void Machine::EndHeld(const AttemptKey& key) {
  const auto it = held_.find(key);
  Machine* head = it->second.head;
  EndPart(key);
  held_.erase(key);
  closed_.insert(key);
  if (head != nullptr) head->LosePeer(key, this);
}

void Machine::EndAllHeld() {
  std::vector<AttemptKey> keys;
  for (const auto& [key, held] : held_) keys.push_back(key);
  for (const AttemptKey& key : keys) {
    EndHeld(key);
    SayNothing(key, FailureClass::kRendezvousTimeout);
  }
}

/// What the head runs here ends; its slots are held until the coordinator releases them.
void Machine::EndPart(const AttemptKey& key) {
  const auto it = held_.find(key);
  if (it == held_.end() || it->second.head == nullptr) return;
  it->second.head = nullptr;
  world_.history.processes[it->second.history].end = world_.queue.Now();
}

/// The head's ranks begin here. False when that is not so.
bool Machine::Enter(const AttemptKey& key, const std::string& token, Machine* head) {
  const auto it = held_.find(key);
  const bool answers = up_ && world_.queue.Now() >= paused_until_;
  if (!answers || it == held_.end() || it->second.token != token ||
      world_.Chance(world_.unreachable))
    return false;
  it->second.head = head;
  it->second.history = world_.history.processes.size();
  world_.history.processes.push_back({key, id_, absl::StrCat(id_, " ", ToString(key)),
                                      it->second.slots, world_.queue.Now(),
                                      absl::InfiniteDuration()});
  return true;
}

/// mpirun starts its daemons on the other hosts; only then the trainer begins.
void Machine::Join(const AttemptKey& key, std::size_t of, const StartCommand& command) {
  const auto it = lives_.find(key);
  if (it == lives_.end() || !it->second.running || it->second.history != of) return;
  Life& life = it->second;
  for (std::size_t i = 1; i < command.hosts.size(); ++i) {
    Machine* peer = world_.fleet.at(command.hosts[i].worker);
    if (peer->Enter(key, command.token, this)) {
      life.peers.push_back(peer);
      continue;
    }
    Trace(absl::StrCat(ToString(key), " does not reach ", peer->id()));
    ++world_.history.counts["gang peer not reached"];
    life.failure_class = FailureClass::kRendezvousTimeout;
    End(key, life, kCannotStart);
    return;
  }
  ++world_.history.counts["gang over several workers trains"];
  Begin(key, life);
}

void Machine::LosePeer(const AttemptKey& key, Machine* peer) {
  const auto it = lives_.find(key);
  if (it == lives_.end() || !it->second.running) return;
  std::erase(it->second.peers, peer);
  it->second.failure_class = FailureClass::kNodeLost;
  End(key, it->second, kCannotStart);
}

void Machine::EndPeers(const AttemptKey& key, Life& life) {
  for (Machine* peer : std::exchange(life.peers, {})) {
    if (powered_) {
      peer->EndPart(key);
    } else {
      world_.queue.After(world_.Upto(kNoticed), [peer, key] { peer->EndPart(key); });
    }
  }
}

Machine* Machine::HeadElsewhere() const {
  for (const auto& [key, held] : held_) {
    if (held.head != nullptr) return held.head;
  }
  return nullptr;
}

/// What the ranks here are told, all of the gang learn.
void Machine::NoticeHeads() {
  for (const auto& [key, held] : held_) {
    if (held.head == nullptr) continue;
    const auto life = held.head->lives_.find(key);
    if (life != held.head->lives_.end()) life->second.noticed = true;
  }
}

}  // namespace sae::server::sim
