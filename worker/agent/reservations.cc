#include "worker/agent/reservations.h"

#include <algorithm>

namespace saeloom::agent {

void Reservations::Hold(const Reservation& reservation) {
  sae::MutexLock lock(mu_);
  held_.try_emplace(reservation.key, Held{reservation});
}

bool Reservations::Holds(const AttemptKey& key) const {
  sae::MutexLock lock(mu_);
  return held_.count(key) > 0;
}

bool Reservations::Take(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  return held_.erase(key) > 0;
}

void Reservations::End(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  if (const auto it = held_.find(key); it != held_.end()) it->second.ended = true;
}

void Reservations::EndAll() {
  sae::MutexLock lock(mu_);
  for (auto& [key, held] : held_) held.ended = true;
}

void Reservations::EndIdle() {
  sae::MutexLock lock(mu_);
  for (auto& [key, held] : held_) held.ended = held.ended || held.commands == 0;
}

std::vector<AttemptKey> Reservations::TakeGone() {
  sae::MutexLock lock(mu_);
  std::vector<AttemptKey> gone;
  for (auto it = held_.begin(); it != held_.end();) {
    if (!it->second.ended || it->second.commands > 0) {
      ++it;
      continue;
    }
    gone.push_back(it->first);
    it = held_.erase(it);
  }
  return gone;
}

std::vector<AttemptKey> Reservations::All() const {
  sae::MutexLock lock(mu_);
  std::vector<AttemptKey> all;
  for (const auto& [key, held] : held_) all.push_back(key);
  return all;
}

int Reservations::slots() const {
  sae::MutexLock lock(mu_);
  int slots = 0;
  for (const auto& [key, held] : held_) slots += held.reservation.slots;
  return slots;
}

std::set<std::string> Reservations::gpus() const {
  sae::MutexLock lock(mu_);
  std::set<std::string> gpus;
  for (const auto& [key, held] : held_)
    gpus.insert(held.reservation.gpus.begin(), held.reservation.gpus.end());
  return gpus;
}

absl::StatusOr<Reservation> Reservations::Enter(const AttemptKey& key, const std::string& token) {
  sae::MutexLock lock(mu_);
  const auto it = held_.find(key);
  if (it == held_.end() || it->second.ended) {
    return absl::NotFoundError(absl::StrCat("attempt ", key.Text(),
                                            " is not prepared on this worker: it was released, or "
                                            "the worker was restarted"));
  }
  const std::string& expected = it->second.reservation.token;
  // In constant time: the length is no secret, the bytes are.
  unsigned char differs = expected.empty() || expected.size() != token.size() ? 1 : 0;
  for (std::size_t at = 0; at < std::min(expected.size(), token.size()); ++at)
    differs |= static_cast<unsigned char>(expected[at] ^ token[at]);
  if (differs != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("attempt ", key.Text(), ": the token is not the one of its preparation"));
  }
  ++it->second.commands;
  return it->second.reservation;
}

bool Reservations::Wanted(const AttemptKey& key) const {
  sae::MutexLock lock(mu_);
  const auto it = held_.find(key);
  return it != held_.end() && !it->second.ended;
}

void Reservations::Leave(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  if (const auto it = held_.find(key); it != held_.end()) --it->second.commands;
}

}  // namespace saeloom::agent
