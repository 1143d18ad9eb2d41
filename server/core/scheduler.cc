#include "server/core/scheduler.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace sae::server {
namespace {

constexpr std::array<const char*, 8> kWords = {"none",           "no_worker",  "too_large",
                                               "slots_busy",     "checkpoint", "checkpoint_slots",
                                               "max_concurrent", "back_off"};

bool MayHold(const SchedulableWorker& worker, const SchedulableTrial& trial) {
  return trial.runs_id.empty() || worker.runs_id == trial.runs_id;
}

int Largest(const std::vector<SchedulableWorker>& workers, const SchedulableTrial& trial) {
  int largest = 0;
  for (const auto& w : workers) {
    if (MayHold(w, trial)) largest = std::max(largest, w.slots);
  }
  return largest;
}

/// The worker to take, or workers.size(): not the one it failed on, then its checkpoint's own, then
/// the one it fills best, so that large gaps stay for large gangs.
std::size_t Best(const std::vector<SchedulableWorker>& workers, const SchedulableTrial& trial) {
  const auto rank = [&](const SchedulableWorker& w) {
    return std::make_tuple(w.id == trial.avoid, w.id != trial.prefer, w.free, w.id);
  };
  std::size_t best = workers.size();
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (!MayHold(workers[i], trial) || workers[i].free < trial.slots) continue;
    if (best == workers.size() || rank(workers[i]) < rank(workers[best])) best = i;
  }
  return best;
}

/// Keeps one worker's slots for a gang that has to wait: the one that has most of them already.
void Reserve(std::vector<SchedulableWorker>& workers, const SchedulableTrial& trial) {
  SchedulableWorker* best = nullptr;
  for (auto& w : workers) {
    if (MayHold(w, trial) && w.slots >= trial.slots && (best == nullptr || w.free > best->free))
      best = &w;
  }
  if (best != nullptr) best->free = 0;
}

Wait WhyNot(const std::vector<SchedulableWorker>& workers, const SchedulableTrial& trial) {
  Wait wait;
  wait.largest = Largest(workers, trial);
  if (workers.empty()) {
    wait.reason = WaitReason::kNoWorker;
  } else if (wait.largest == 0) {
    wait.reason = WaitReason::kCheckpoint;
  } else if (wait.largest < trial.slots) {
    wait.reason = trial.runs_id.empty() ? WaitReason::kTooLarge : WaitReason::kCheckpointSlots;
  } else {
    wait.reason = WaitReason::kSlotsBusy;
  }
  return wait;
}

}  // namespace

std::string ToString(WaitReason reason) { return kWords[static_cast<std::size_t>(reason)]; }

Schedule Plan(const std::vector<SchedulableTrial>& trials, std::vector<SchedulableWorker> workers,
              std::map<std::string, std::int64_t> rooms) {
  Schedule schedule;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const SchedulableTrial& trial = trials[i];
    const auto room = rooms.find(trial.sweep);
    Wait wait;
    if (trial.delayed) {
      wait.reason = WaitReason::kBackOff;
    } else if (room != rooms.end() && room->second <= 0) {
      wait.reason = WaitReason::kConcurrency;
    } else if (const std::size_t best = Best(workers, trial); best < workers.size()) {
      workers[best].free -= trial.slots;
      if (room != rooms.end()) --room->second;
      schedule.placements.push_back({i, best});
      continue;
    } else {
      wait = WhyNot(workers, trial);
      if (wait.reason == WaitReason::kSlotsBusy) Reserve(workers, trial);
    }
    wait.trial = i;
    schedule.waits.push_back(wait);
  }
  return schedule;
}

}  // namespace sae::server
