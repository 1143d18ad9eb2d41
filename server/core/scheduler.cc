#include "server/core/scheduler.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

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

/// Bytes that a gang needs apart from its trials': programs and libraries of each rank.
constexpr std::int64_t kRankOverhead = std::int64_t{160} << 20;

/// Chooses the others of each gang.
class Packer {
 public:
  Packer(const std::vector<SchedulableTrial>& trials, const std::vector<SchedulableWorker>& workers)
      : trials_(trials), workers_(workers), taken_(trials.size()) {
    for (std::size_t i = 0; i < trials.size(); ++i) {
      if (trials[i].pack != 1 && !trials[i].stream.empty() && !trials[i].delayed)
        streams_[{trials[i].sweep, trials[i].stream}].push_back(i);
    }
  }

  bool taken(std::size_t trial) const { return taken_[trial]; }

  /// Who joins `first` on `worker`, at most `room` of them.
  std::vector<std::size_t> Join(std::size_t first, const SchedulableWorker& worker,
                                std::int64_t room) {
    taken_[first] = true;
    std::vector<std::size_t> others;
    const auto stream = streams_.find({trials_[first].sweep, trials_[first].stream});
    if (trials_[first].pack == 1 || stream == streams_.end()) return others;
    const std::int64_t size = Size(trials_[first], stream->second);
    const bool guess = trials_[first].pack == 0;
    std::int64_t memory = trials_[first].memory + kRankOverhead * trials_[first].slots;
    const std::int64_t limit = worker.memory * trials_[first].slots / std::max(worker.slots, 1);
    const bool known = worker.memory > 0 && trials_[first].memory > 0;
    if (guess && !known) return others;
    for (const std::size_t i : stream->second) {
      if (static_cast<std::int64_t>(others.size()) + 1 >= size ||
          static_cast<std::int64_t>(others.size()) >= room)
        break;
      const SchedulableTrial& trial = trials_[i];
      if (taken_[i] || !MayHold(worker, trial) || trial.avoid == worker.id) continue;
      if (known && memory + trial.memory > limit) continue;
      memory += trial.memory;
      taken_[i] = true;
      others.push_back(i);
    }
    return others;
  }

 private:
  /// Of its own accord: all that wait, spread over all slots that could ever hold them.
  std::int64_t Size(const SchedulableTrial& first, const std::vector<std::size_t>& stream) const {
    if (first.pack > 0) return first.pack;
    std::int64_t places = 0;
    for (const SchedulableWorker& w : workers_)
      places += MayHold(w, first) ? w.slots / std::max(first.slots, 1) : 0;
    const auto waiting = static_cast<std::int64_t>(stream.size());
    return std::min(kAutoPacked, (waiting + places - 1) / std::max<std::int64_t>(places, 1));
  }

  const std::vector<SchedulableTrial>& trials_;
  const std::vector<SchedulableWorker> workers_;
  std::vector<bool> taken_;
  std::map<std::pair<std::string, std::string>, std::vector<std::size_t>> streams_;
};

}  // namespace

std::string ToString(WaitReason reason) { return kWords[static_cast<std::size_t>(reason)]; }

Schedule Plan(const std::vector<SchedulableTrial>& trials, std::vector<SchedulableWorker> workers,
              std::map<std::string, std::int64_t> rooms) {
  Schedule schedule;
  Packer packer(trials, workers);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (packer.taken(i)) continue;
    const SchedulableTrial& trial = trials[i];
    const auto room = rooms.find(trial.sweep);
    Wait wait;
    if (trial.delayed) {
      wait.reason = WaitReason::kBackOff;
    } else if (room != rooms.end() && room->second <= 0) {
      wait.reason = WaitReason::kConcurrency;
    } else if (const std::size_t best = Best(workers, trial); best < workers.size()) {
      workers[best].free -= trial.slots;
      const std::int64_t more = room == rooms.end() ? std::numeric_limits<std::int64_t>::max() : room->second - 1;
      schedule.placements.push_back({i, best, i});
      const auto others = packer.Join(i, workers[best], more);
      for (const std::size_t other : others) schedule.placements.push_back({other, best, i});
      if (room != rooms.end()) room->second -= 1 + static_cast<std::int64_t>(others.size());
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
