#include "server/core/placement.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace sae::server {
namespace {

constexpr std::array<const char*, 13> kWords = {
    "none",           "no_worker", "too_large", "slots_busy", "checkpoint", "checkpoint_slots",
    "max_concurrent", "back_off",  "memory",    "quota",      "cordoned",   "paused",
    "vacating"};

bool MemoryFits(const SchedulableWorker& worker, std::int64_t need) {
  // Alone on a worker it is tried whatever was planned: a plan may be wrong.
  return worker.memory == 0 || need == 0 || worker.memory_used == 0 ||
         worker.memory_used + need <= worker.memory;
}

bool Avoided(const SchedulableWorker& worker, const PendingQueue::Hints* hints) {
  return hints != nullptr &&
         std::find(hints->avoid.begin(), hints->avoid.end(), worker.id) != hints->avoid.end();
}
bool Preferred(const SchedulableWorker& worker, const PendingQueue::Hints* hints) {
  return hints != nullptr && worker.id == hints->prefer;
}

}  // namespace

std::string ToString(WaitReason reason) { return kWords[static_cast<std::size_t>(reason)]; }

Topology ParseTopology(const std::string& word) {
  if (word == "same-node") return Topology::kSameNode;
  if (word == "same-rack") return Topology::kSameRack;
  return Topology::kAny;
}

bool Places::OneIsEnough(const Need& need) const {
  return need.topology == Topology::kSameNode ||
         std::any_of(workers_.begin(), workers_.end(), [&](const SchedulableWorker& w) {
           return w.cordon.empty() && MayHold(w, need) && w.slots >= need.slots;
         });
}

int Places::FreeFor(const SchedulableWorker& worker, const Need& need) const {
  if (worker.memory == 0 || need.memory == 0 || worker.memory_used == 0) return worker.free;
  const std::int64_t each = (need.memory + need.slots - 1) / need.slots;
  return static_cast<int>(
      std::clamp<std::int64_t>((worker.memory - worker.memory_used) / each, 0, worker.free));
}

std::vector<Places::Take> Places::FindOne(const Need& need,
                                          const PendingQueue::Hints* hints) const {
  const auto rank = [&](const SchedulableWorker& w) {
    return std::make_tuple(Avoided(w, hints), !Preferred(w, hints), w.free,
                           w.memory - w.memory_used, std::cref(w.id));
  };
  std::size_t best = workers_.size();
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const SchedulableWorker& w = workers_[i];
    if (w.free < need.slots || !w.cordon.empty() || !MayHold(w, need) ||
        !MemoryFits(w, need.memory)) {
      continue;
    }
    if (best == workers_.size() || rank(w) < rank(workers_[best])) best = i;
  }
  if (best == workers_.size()) return {};
  return {{best, need.slots}};
}

std::vector<std::vector<std::size_t>> Places::Groups(const Need& need, bool cordoned) const {
  std::map<std::pair<std::string, std::string>, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const SchedulableWorker& w = workers_[i];
    const bool rack = need.topology == Topology::kSameRack;
    if (!w.peers || !MayHold(w, need) || (!cordoned && !w.cordon.empty()) ||
        (rack && w.rack.empty())) {
      continue;
    }
    groups[{w.runs_id, rack ? w.rack : ""}].push_back(i);
  }
  std::vector<std::vector<std::size_t>> out;
  for (auto& [key, members] : groups) out.push_back(std::move(members));
  return out;
}

std::vector<std::vector<std::size_t>> Places::Candidates(const Need& need) const {
  std::vector<std::vector<std::size_t>> out;
  if (!OneIsEnough(need)) return Groups(need, false);
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    const SchedulableWorker& w = workers_[i];
    if (w.cordon.empty() && MayHold(w, need) && w.slots >= need.slots) out.push_back({i});
  }
  return out;
}

std::vector<Places::Take> Places::FindSeveral(const Need& need,
                                              const PendingQueue::Hints* hints) const {
  std::vector<Take> best;
  int best_left = 0;
  for (std::vector<std::size_t>& group : Groups(need, false)) {
    const auto rank = [&](std::size_t i) {
      return std::make_tuple(Avoided(workers_[i], hints), -FreeFor(workers_[i], need),
                             std::cref(workers_[i].id));
    };
    std::sort(group.begin(), group.end(),
              [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
    std::vector<Take> takes;
    int missing = need.slots, left = 0;
    for (const std::size_t i : group) {
      const int free = FreeFor(workers_[i], need);
      left += free;
      if (free == 0 || missing == 0) continue;
      takes.push_back({i, std::min(free, missing)});
      missing -= takes.back().slots;
    }
    if (missing > 0) continue;
    left -= need.slots;
    if (!best.empty() &&
        std::make_pair(takes.size(), left) >= std::make_pair(best.size(), best_left))
      continue;
    best = std::move(takes);
    best_left = left;
  }
  // The head reads the checkpoint: best where it was written.
  const auto head = std::find_if(best.begin(), best.end(), [&](const Take& t) {
    return Preferred(workers_[t.worker], hints);
  });
  if (head != best.end()) std::rotate(best.begin(), head, head + 1);
  return best;
}

std::vector<Places::Take> Places::Find(const Need& need, const PendingQueue::Hints* hints) const {
  if (OneIsEnough(need)) return FindOne(need, hints);
  return FindSeveral(need, hints);
}

void Places::Occupy(const std::vector<Take>& takes, int slots, std::int64_t memory) {
  for (const Take& take : takes) {
    workers_[take.worker].free -= take.slots;
    workers_[take.worker].memory_used += memory * take.slots / std::max(slots, 1);
  }
}

bool Places::ClaimComing(const Need& need) {
  const std::vector<std::vector<std::size_t>> candidates = Candidates(need);
  const std::vector<std::size_t>* best = nullptr;
  int best_free = -1;
  for (const auto& candidate : candidates) {
    int free = 0, coming = 0;
    for (const std::size_t i : candidate) {
      free += workers_[i].free;
      coming += workers_[i].coming;
    }
    if (free + coming < need.slots || free <= best_free) continue;
    best = &candidate;
    best_free = free;
  }
  if (best == nullptr) return false;
  // Of what is coming first: what is free now can be of use to others meanwhile.
  int missing = need.slots;
  for (int SchedulableWorker::*slots : {&SchedulableWorker::coming, &SchedulableWorker::free}) {
    for (const std::size_t i : *best) {
      const int taken = std::min(missing, workers_[i].*slots);
      workers_[i].*slots -= taken;
      missing -= taken;
    }
  }
  return true;
}

bool Places::Reserve(const Need& need, bool whole_worker) {
  const std::vector<std::vector<std::size_t>> candidates = Candidates(need);
  const std::vector<std::size_t>* best = nullptr;
  int best_free = 0;
  for (const auto& candidate : candidates) {
    int free = 0, slots = 0;
    for (const std::size_t i : candidate) {
      free += workers_[i].free;
      slots += workers_[i].slots;
    }
    if (slots < need.slots || free <= best_free) continue;
    best = &candidate;
    best_free = free;
  }
  if (best == nullptr) return false;
  int missing = whole_worker ? best_free : need.slots;
  for (const std::size_t i : *best) {
    const int taken = std::min(missing, workers_[i].free);
    workers_[i].free -= taken;
    missing -= taken;
  }
  return true;
}

}  // namespace sae::server
