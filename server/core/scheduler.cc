#include "server/core/scheduler.h"

#include <algorithm>
#include <deque>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "server/core/live_index.h"
#include "server/core/packer.h"

namespace sae::server {
namespace {

/// Sweeps of one priority that still have something to try, in the order of fairness.
class FairOrder {
 public:
  void Add(std::size_t sweep, const SweepTerms& terms, QueueTerms& queue) {
    Line& line = lines_[{terms.queue, terms.owner}];
    line.queue = &queue;
    line.used = &queue.owners[terms.owner];
    line.sweeps.push_back(sweep);
  }
  bool empty() const { return lines_.empty(); }
  std::size_t Next() {
    best_ = lines_.begin();
    for (auto it = lines_.begin(); it != lines_.end(); ++it) {
      if (RankOf(it->second) < RankOf(best_->second)) best_ = it;
    }
    return best_->second.sweeps.front();
  }
  /// What Next gave last has nothing more to try.
  void Finished() {
    best_->second.sweeps.pop_front();
    if (best_->second.sweeps.empty()) lines_.erase(best_);
  }

 private:
  struct Line {
    const QueueTerms* queue = nullptr;
    const std::int64_t* used = nullptr;  ///< by the owner, in the queue
    std::deque<std::size_t> sweeps;
  };
  static std::tuple<double, std::int64_t, std::size_t> RankOf(const Line& line) {
    return {static_cast<double>(line.queue->used) / line.queue->weight, *line.used,
            line.sweeps.front()};
  }
  std::map<std::pair<std::string, std::string>, Line> lines_;
  std::map<std::pair<std::string, std::string>, Line>::iterator best_;
};

class Planner {
 public:
  explicit Planner(const ScheduleInput& input)
      : in_(input), places_(input.workers), packer_(input.workers), gone_(input.running.size()) {}

  Schedule Run() {
    std::map<std::int64_t, std::vector<std::size_t>, std::greater<>> levels;
    progress_.resize(in_.sweeps.size());
    for (std::size_t s = 0; s < in_.sweeps.size(); ++s) {
      const auto pending = in_.pending.sweeps().find(in_.sweeps[s].name);
      if (pending == in_.pending.sweeps().end()) continue;
      progress_[s].sweep = &pending->second;
      for (const auto& [shape, batch] : pending->second.batches)
        progress_[s].heads.push_back({&shape, &batch, batch.trials.begin()});
      levels[in_.sweeps[s].priority].push_back(s);
    }
    for (const auto& [priority, sweeps] : levels) {
      FairOrder order;
      for (const std::size_t s : sweeps)
        order.Add(s, in_.sweeps[s], in_.queues[in_.sweeps[s].queue]);
      while (!order.empty()) {
        if (!Step(order.Next())) order.Finished();
      }
    }
    return std::move(out_);
  }

 private:
  struct Head {
    const Shape* shape;
    const PendingQueue::Batch* batch;
    std::set<int>::const_iterator next;
  };
  struct Progress {
    const PendingQueue::Sweep* sweep = nullptr;
    std::vector<Head> heads;  ///< what is left to try
  };

  /// What did not fit once does not fit later in the cycle, for slots only get fewer; nor does one
  /// of no higher priority find anything more to keep.
  struct Failed {
    Wait wait;
    bool nothing_left = false;
  };
  using NeedKey = std::tuple<int, std::int64_t, Topology, std::string>;

  /// Places the sweep's next trial, or learns that a batch has to wait. False when nothing is left.
  bool Step(std::size_t s) {
    Progress& progress = progress_[s];
    std::erase_if(progress.heads, [&](Head& head) {
      while (head.next != head.batch->trials.end() &&
             packer_.taken(progress.sweep->entries.at(*head.next)))
        ++head.next;
      return head.next == head.batch->trials.end();
    });
    if (progress.heads.empty()) return false;
    const auto head = std::min_element(
        progress.heads.begin(), progress.heads.end(), [](const Head& a, const Head& b) {
          return std::make_pair(a.shape->order, *a.next) < std::make_pair(b.shape->order, *b.next);
        });
    const Need need = NeedOf(s, *head);
    Wait wait = Barred(s, need);
    if (wait.reason == WaitReason::kNone) {
      const NeedKey key{need.slots, need.memory, need.topology, need.runs_id};
      auto seen = failed_.find(key);
      if (seen == failed_.end() && !Place(s, *head, need))
        seen = failed_.emplace(key, Failed{places_.WhyNot(need), false}).first;
      if (seen != failed_.end()) {
        wait = seen->second.wait;
        if (!seen->second.nothing_left) seen->second.nothing_left = !KeepRoom(s, *head, need, wait);
      }
    }
    if (wait.reason == WaitReason::kNone) return true;
    out_.waits.push_back({s, *head->shape, Left(*head), std::move(wait)});
    progress.heads.erase(head);
    return true;
  }

  Need NeedOf(std::size_t s, const Head& head) const {
    Need need;
    need.slots = head.shape->slots;
    if (head.shape->memory > 0)
      need.memory = head.shape->memory + kRankOverhead * head.shape->slots;
    need.runs_id = head.shape->runs_id;
    need.runs_directory = head.batch->runs_directory;
    need.topology = in_.sweeps[s].topology;
    return need;
  }

  std::int64_t Left(const Head& head) const {
    return static_cast<std::int64_t>(head.batch->trials.size()) - packer_.TakenOf(*head.batch);
  }

  /// What keeps it back wherever there is room.
  Wait Barred(std::size_t s, const Need& need) {
    const SweepTerms& terms = in_.sweeps[s];
    if (terms.paused) return {WaitReason::kPaused, "its sweep is paused"};
    if (terms.room <= 0) {
      return {WaitReason::kConcurrency,
              absl::StrCat("waiting: maxConcurrent = ", terms.max_concurrent,
                           " of its sweep are running")};
    }
    const QueueTerms& queue = in_.queues[terms.queue];
    if (queue.quota == 0 || queue.used + need.slots <= queue.quota) return {};
    return {WaitReason::kQuota,
            absl::StrCat("needs ", SlotsText(need.slots), "; queue ", terms.queue, " uses ",
                         queue.used, " of its quota of ", SlotsText(queue.quota))};
  }

  void Use(std::size_t s, int slots, std::int64_t trials) {
    SweepTerms& terms = in_.sweeps[s];
    QueueTerms& queue = in_.queues[terms.queue];
    queue.used += slots;
    queue.owners[terms.owner] += slots;
    if (terms.room != kNoLimit) terms.room -= trials;
  }

  bool Place(std::size_t s, const Head& head, const Need& need) {
    const int trial = *head.next;
    const PendingQueue::Entry& entry = progress_[s].sweep->entries.at(trial);
    const std::vector<Places::Take> takes = places_.Find(need, entry.hints.get());
    if (takes.empty()) return false;
    packer_.Take(entry);
    std::vector<int> others;
    if (takes.size() == 1) {
      others = packer_.Join(*progress_[s].sweep, trial, takes[0].worker, in_.sweeps[s].room - 1);
    }
    std::int64_t memory = need.memory;
    for (const int other : others)
      memory += progress_[s].sweep->entries.at(other).batch->first.memory;
    places_.Occupy(takes, need.slots, memory);
    out_.placements.push_back({s, trial, trial, !others.empty(), takes});
    for (const int other : others) out_.placements.push_back({s, other, trial, true, takes});
    Use(s, need.slots, 1 + static_cast<std::int64_t>(others.size()));
    return true;
  }

  /// For as many of the batch as could start if there were room: slots that are coming, slots of
  /// those that give way, slots that are free too early. False when there is nothing more to keep
  /// for such a need.
  bool KeepRoom(std::size_t s, const Head& head, const Need& need, Wait& wait) {
    if (wait.reason == WaitReason::kMemory) return places_.Reserve(need, true);
    if (wait.reason != WaitReason::kSlotsBusy) return false;
    const SweepTerms& terms = in_.sweeps[s];
    const QueueTerms& queue = in_.queues[terms.queue];
    std::int64_t count = std::min(Left(head), terms.room);
    if (queue.quota > 0) count = std::min(count, (queue.quota - queue.used) / need.slots);
    auto trial = head.next;
    for (std::int64_t i = 0; i < count; ++i) {
      const bool coming =
          places_.ClaimComing(need) || (Preempt(s, *trial, need) && places_.ClaimComing(need));
      if (coming && i == 0) {
        wait = {WaitReason::kVacating,
                absl::StrCat("waiting for ", SlotsText(need.slots), " that others are giving up")};
      }
      if (!coming && !places_.Reserve(need, false)) return false;
      if (std::next(trial) != head.batch->trials.end()) ++trial;
    }
    return true;
  }

  bool Preempt(std::size_t s, int trial, const Need& need) {
    const std::vector<std::size_t> victims =
        ChooseVictims(places_, in_.running, gone_, need, in_.sweeps[s].priority);
    for (const std::size_t victim : victims) {
      gone_[victim] = true;
      out_.evictions.push_back({victim, s, trial});
      for (const Places::Take& take : in_.running[victim].takes)
        places_.Vacate(take.worker, take.slots);
    }
    return !victims.empty();
  }

  ScheduleInput in_;  ///< counts as it places
  Places places_;
  Packer packer_;
  std::vector<bool> gone_;
  std::vector<Progress> progress_;
  std::map<NeedKey, Failed> failed_;
  Schedule out_;
};

}  // namespace

Schedule Plan(const ScheduleInput& input) { return Planner(input).Run(); }

}  // namespace sae::server
