#pragma once
// What all readers of one sweep share: its newest events, serialised once, and of each series of
// points the newest one. Bounded: older events are in the store. Used on the core's thread.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/core/core.h"

namespace sae::server {

/// A serialised saeloom.v1.SweepEvent, shared by all streams that it goes to.
using SharedBytes = std::shared_ptr<const std::string>;

struct FeedEvent {
  std::int64_t seq = 0;
  int trial = -1;  ///< index; -1 = about the sweep
  bool point = false;
  SharedBytes bytes;
};
FeedEvent MakeFeedEvent(const LogEvent& event);

class WatchFeed {
 public:
  /// Begins after `head`.
  explicit WatchFeed(std::int64_t head) : begin_(head), head_(head), window_begin_(head) {}

  /// The next one; a gap in the sequence empties the window.
  void Add(const LogEvent& event);
  /// Events up to here exist, whether they were added or not.
  void SkipTo(std::int64_t head);

  std::int64_t head() const { return head_; }
  /// Newest points are known of all seqs after this one.
  std::int64_t begin() const { return begin_; }
  /// Whether Events(after, ...) misses nothing.
  bool Holds(std::int64_t after) const { return after >= window_begin_; }
  /// Whether Lifecycle(after, ...) misses nothing.
  bool HoldsLifecycle(std::int64_t after) const { return after >= lifecycle_begin_; }

  /// With seq > after, in order. `trials` sorted, empty = all; what is about the sweep is always
  /// in. Stops before the one that would make more than `most_bytes`, but for the first. `upto`:
  /// nothing more up to here.
  std::vector<FeedEvent> Events(std::int64_t after, const std::vector<int>& trials, bool lifecycle,
                                bool points, std::size_t most_bytes, std::int64_t& upto) const;
  /// Lifecycle events with after < seq, at most `limit`.
  std::vector<FeedEvent> Lifecycle(std::int64_t after, const std::vector<int>& trials,
                                   std::size_t limit) const;
  /// The newest point of each series with after < seq <= upto, in order, at most `limit`: the
  /// oldest ones.
  std::vector<FeedEvent> NewestPoints(std::int64_t after, std::int64_t upto,
                                      const std::vector<int>& trials, std::size_t limit) const;
  /// How many NewestPoints there are without limits.
  std::int64_t CountNewest(std::int64_t after, const std::vector<int>& trials) const;

 private:
  /// Points of a trial that have the same names are one series.
  struct Series {
    int trial = 0;
    std::size_t names = 0;
    auto operator<=>(const Series&) const = default;
  };

  std::int64_t begin_;
  std::int64_t head_;
  std::int64_t window_begin_;  ///< the window holds all after it
  std::int64_t lifecycle_begin_ = window_begin_;
  std::size_t window_bytes_ = 0;
  std::deque<FeedEvent> window_;
  std::deque<FeedEvent> lifecycle_;
  std::map<Series, std::int64_t> newest_;
  std::map<std::int64_t, std::pair<Series, SharedBytes>> by_seq_;
};

}  // namespace sae::server
