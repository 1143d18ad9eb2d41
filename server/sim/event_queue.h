#pragma once
// Simulated time: what is to happen, in order. Equal times run in the order in which they were
// asked for, so that a seed gives one history. Not thread-safe.

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/clock.h"

namespace sae::server::sim {

class EventQueue {
 public:
  absl::Duration Now() const { return now_; }
  void At(absl::Duration when, std::function<void()> what) {
    queue_.push({std::max(when, now_), next_++, std::move(what)});
  }
  void After(absl::Duration delay, std::function<void()> what) {
    At(now_ + delay, std::move(what));
  }
  bool Empty() const { return queue_.empty(); }
  absl::Duration NextAt() const { return queue_.top().when; }
  void RunNext() {
    // The top is gone before it runs: it may add others.
    const std::function<void()> what = std::move(const_cast<Item&>(queue_.top()).what);
    now_ = queue_.top().when;
    queue_.pop();
    what();
  }

 private:
  struct Item {
    absl::Duration when;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Item& other) const {
      return std::pair(when, order) > std::pair(other.when, other.order);
    }
  };
  std::priority_queue<Item> queue_;
  absl::Duration now_ = absl::Seconds(1);
  std::uint64_t next_ = 0;
};

/// One machine's clock: it runs at its own rate, and its wall clock jumps.
class SimClock final : public Clock {
 public:
  SimClock(const EventQueue& queue, double rate, absl::Duration booted)
      : queue_(queue), rate_(rate), booted_(booted) {}
  absl::Time Now() override {
    // As a real clock: what is stored has no parts of nanoseconds.
    return absl::FromUnixSeconds(1'700'000'000) +
           absl::Trunc(SinceBoot() + wall_offset_, absl::Nanoseconds(1));
  }
  absl::Duration SinceBoot() override { return booted_ + queue_.Now() * rate_; }
  /// Nothing under simulation sleeps.
  void SleepFor(absl::Duration) override {}
  void JumpWall(absl::Duration by) { wall_offset_ += by; }
  /// The world's time at which SinceBoot() will be `local`.
  absl::Duration WorldTime(absl::Duration local) const { return (local - booted_) / rate_; }

 private:
  const EventQueue& queue_;
  const double rate_;
  const absl::Duration booted_;
  absl::Duration wall_offset_;
};

}  // namespace sae::server::sim
