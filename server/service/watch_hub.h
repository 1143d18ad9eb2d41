#pragma once
// Readers of sweeps' event streams. Each is a cursor over the log: nothing is queued for a reader
// that does not read, and nothing is done for one whose sweep has no news. Readers of a sweep share
// its events, serialised once. Batches wait up to kBatchTime for company and are at most
// kBatchBytes; a reader is given the next one when it has taken the last. One that asked for
// conflation, or that has fallen behind by `most_lag` events that it wanted, gets the newest point
// of each series in place of all of them; lifecycle events are never left out. All members run on
// the core's thread (post to it).

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/core/core.h"
#include "server/service/sink.h"
#include "server/service/watch_feed.h"
#include "server/service/watch_request.h"

namespace sae::server {

class WatchHub final : public CoreObserver {
 public:
  using Out = Sink<SharedBytes>;
  static constexpr absl::Duration kBatchTime = absl::Milliseconds(50);
  static constexpr std::size_t kBatchBytes = 60'000;

  struct Options {
    absl::Duration heartbeat = absl::Seconds(5);  ///< idle streams get one this often
    std::int64_t most_lag = 10'000;
  };
  struct Stats {
    std::int64_t streams = 0;
    std::int64_t largest_lag = 0;
    std::int64_t sent = 0;     ///< events, since the start
    std::int64_t resyncs = 0;  ///< since the start
    std::int64_t bytes = 0;    ///< own memory of all readers, without what they share
  };

  explicit WatchHub(Options options) : options_(options) {}

  /// NOT_FOUND for an unknown sweep and OUT_OF_RANGE for a cursor beyond its head or before what is
  /// kept end the stream.
  void Add(Core& core, std::int64_t id, WatchFilter filter, std::shared_ptr<Out> out);
  /// The reader has taken what it was given.
  void Hungry(std::int64_t id);
  void Remove(std::int64_t id);
  /// Feeds those that are due, for some milliseconds at most. Returns when it wants to be called
  /// again (SinceBoot).
  absl::Duration Poll(Core& core, absl::Duration now);
  /// Ends all streams and those to come: UNAVAILABLE, so that clients resume elsewhere or later.
  void Drain();
  const Stats& stats() const { return stats_; }

  void OnEvent(const LogEvent& event) override;
  void OnHead(const std::string& sweep, std::int64_t head) override;

 private:
  struct Sweep;
  struct Reader {
    WatchFilter filter;
    Sweep* sweep = nullptr;
    std::int64_t cursor = 0;
    std::int64_t counts = 0;   ///< version of the counts that it has
    std::int64_t history = 0;  ///< up to here it is catching up, at its own pace
    std::int64_t waiting = 0;  ///< points that it wants and was not given
    bool hungry = true;
    bool news = true;
    bool catching_up = false;                       ///< conflated, because it was too slow
    absl::Duration due = absl::InfiniteDuration();  ///< its place in timers_
    absl::Duration last_sent;
    std::shared_ptr<Out> out;  // shared with what carries it, which may end at any time
  };
  struct Sweep {
    explicit Sweep(std::int64_t head) : feed(head) {}
    WatchFeed feed;
    std::set<std::int64_t> readers;
    std::set<std::int64_t> of_all;  ///< those without a filter of trials
    std::unordered_map<int, std::set<std::int64_t>> of_trial;
    std::vector<std::int64_t> know_counts;  ///< readers that have the newest counts
    std::int64_t counts = 1;                ///< version
    std::int64_t counts_made = 0;           ///< version of counts_bytes
    std::string counts_bytes;
  };
  using Batch = std::vector<SharedBytes>;

  void News(std::int64_t id, bool point);
  void CountsChanged(Sweep& sweep);
  void Schedule(std::int64_t id, Reader& reader);
  void Unschedule(std::int64_t id, Reader& reader);
  void Feed(Core& core, std::int64_t id, Reader& reader, absl::Duration now);
  absl::Status Fill(Core& core, Reader& reader, Batch& batch);
  absl::Status FillHistory(Core& core, Reader& reader, Batch& batch);
  absl::Status FillConflated(Core& core, Reader& reader, Batch& batch);
  void FillEvery(Reader& reader, Batch& batch);
  void Give(Reader& reader, const std::vector<FeedEvent>& events, Batch& batch);
  void AddCounts(Core& core, std::int64_t id, Reader& reader, Batch& batch);
  void Measure(Core& core, absl::Duration now);

  const Options options_;
  std::map<std::int64_t, Reader> readers_;
  std::map<std::string, Sweep> sweeps_;  ///< those that have readers
  std::set<std::pair<absl::Duration, std::int64_t>> timers_;
  absl::Duration now_;
  absl::Duration next_measure_;
  Stats stats_;
  bool draining_ = false;
};

}  // namespace sae::server
