#include "server/service/watch_hub.h"

#include <algorithm>

#include "server/core/no_such.h"
#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr int kHistoryRows = 512;        // of the store, in one batch
constexpr std::size_t kLifecycle = 256;  // in one batch of a conflated reader
constexpr int kPollReaders = 200;        // in one Poll: others want the thread too
constexpr absl::Duration kMeasureEvery = absl::Seconds(1);

absl::Status Draining() {
  return absl::UnavailableError(
      "the coordinator is stopping; resume with after_seq = the last seq seen");
}

SharedBytes Bytes(const saeloom::v1::SweepEvent& event) {
  return std::make_shared<const std::string>(event.SerializeAsString());
}

saeloom::v1::SweepEvent Empty(Core& core, std::int64_t seq) {
  saeloom::v1::SweepEvent event;
  event.set_seq(seq);
  *event.mutable_time() = ToTimestamp(core.Now());
  return event;
}

/// Merged by seq; ends before the event that would make more than kBatchBytes.
std::vector<FeedEvent> Merge(const std::vector<FeedEvent>& a, const std::vector<FeedEvent>& b,
                             std::int64_t& upto) {
  std::vector<FeedEvent> all(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), all.begin(),
             [](const FeedEvent& x, const FeedEvent& y) { return x.seq < y.seq; });
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    bytes += all[i].bytes->size();
    if ((bytes <= WatchHub::kBatchBytes || i == 0) && all[i].seq <= upto) continue;
    upto = std::min(upto, all[i].seq - 1);
    all.resize(i);
    break;
  }
  return all;
}

}  // namespace

void WatchHub::Add(Core& core, std::int64_t id, WatchFilter filter, std::shared_ptr<Out> out) {
  if (draining_) return out->End(Draining());
  const SweepRecord* record = core.state().sweep(filter.sweep);
  if (record == nullptr) {
    return out->End(NoSweep(filter.sweep));
  }
  const std::int64_t head = core.head(filter.sweep);
  if (filter.after > head) {
    return out->End(absl::OutOfRangeError(
        absl::StrCat("after_seq: ", filter.after, " is beyond the newest event, ", head,
                     "; was it read from another coordinator? Begin at 0")));
  }
  const std::int64_t kept = core.oldest_kept(filter.sweep);
  if (filter.points && filter.after + 1 < kept) {
    return out->End(absl::OutOfRangeError(absl::StrCat(
        "after_seq: ", filter.after, ": points up to ", kept - 1, " were deleted; begin at ",
        kept - 1, ", or ask for kinds LIFECYCLE and COUNTS alone")));
  }
  if (!filter.trials.empty() && filter.trials.back() >= static_cast<int>(record->trials.size())) {
    return out->End(absl::NotFoundError(absl::StrCat(
        "trials: sweep \"", filter.sweep, "\" has no trial ", TrialNameOf(filter.trials.back()))));
  }
  Sweep& sweep = sweeps_.try_emplace(filter.sweep, head).first->second;
  Reader& reader = readers_[id];
  reader.sweep = &sweep;
  reader.cursor = filter.after;
  reader.history = head;
  reader.out = std::move(out);
  reader.filter = std::move(filter);
  reader.last_sent = now_ - kBatchTime;
  sweep.readers.insert(id);
  if (reader.filter.trials.empty()) sweep.of_all.insert(id);
  for (const int trial : reader.filter.trials) sweep.of_trial[trial].insert(id);
  Schedule(id, reader);
}

void WatchHub::Remove(std::int64_t id) {
  const auto it = readers_.find(id);
  if (it == readers_.end()) return;
  Reader& reader = it->second;
  Sweep& sweep = *reader.sweep;
  Unschedule(id, reader);
  sweep.readers.erase(id);
  sweep.of_all.erase(id);
  for (const int trial : reader.filter.trials) sweep.of_trial[trial].erase(id);
  std::erase(sweep.know_counts, id);
  const std::string name = reader.filter.sweep;
  const bool last = sweep.readers.empty();
  readers_.erase(it);
  if (last) sweeps_.erase(name);
}

void WatchHub::Hungry(std::int64_t id) {
  const auto it = readers_.find(id);
  if (it == readers_.end()) return;
  it->second.hungry = true;
  Schedule(id, it->second);
}

void WatchHub::Schedule(std::int64_t id, Reader& reader) {
  if (!reader.hungry) return;
  const absl::Duration pace = std::max(reader.filter.conflate, kBatchTime);
  // One with much to read gets it as fast as it takes it.
  const bool behind = reader.filter.conflate == absl::ZeroDuration() &&
                      reader.sweep->feed.head() - reader.cursor > kHistoryRows / 2;
  absl::Duration due = reader.last_sent + (reader.news ? pace : options_.heartbeat);
  if (reader.news && behind) due = now_;
  if (due == reader.due) return;
  Unschedule(id, reader);
  reader.due = due;
  timers_.emplace(due, id);
}

void WatchHub::Unschedule(std::int64_t id, Reader& reader) {
  if (reader.due == absl::InfiniteDuration()) return;
  timers_.erase({reader.due, id});
  reader.due = absl::InfiniteDuration();
}

void WatchHub::News(std::int64_t id, bool point) {
  Reader& reader = readers_.at(id);
  if (!(point ? reader.filter.points : reader.filter.lifecycle)) return;
  if (point && reader.cursor >= reader.history) ++reader.waiting;
  if (reader.news && reader.due != absl::InfiniteDuration()) return;
  reader.news = true;
  Schedule(id, reader);
}

void WatchHub::CountsChanged(Sweep& sweep) {
  ++sweep.counts;
  for (const std::int64_t id : std::exchange(sweep.know_counts, {})) {
    Reader& reader = readers_.at(id);
    reader.news = true;
    Schedule(id, reader);
  }
}

void WatchHub::OnEvent(const LogEvent& event) {
  const auto it = sweeps_.find(event.sweep);
  if (it == sweeps_.end()) return;
  Sweep& sweep = it->second;
  sweep.feed.Add(event);
  const bool point = event.telemetry();
  const int trial = TrialIndexOf(event.trial);
  for (const std::int64_t id : sweep.of_all) News(id, point);
  if (trial < 0) {
    for (const auto& [id, ids] : sweep.of_trial) {
      for (const std::int64_t reader : ids) News(reader, point);
    }
  } else if (const auto of = sweep.of_trial.find(trial); of != sweep.of_trial.end()) {
    for (const std::int64_t id : of->second) News(id, point);
  }
  if (!point) CountsChanged(sweep);
}

void WatchHub::OnHead(const std::string& name, std::int64_t head) {
  const auto it = sweeps_.find(name);
  if (it == sweeps_.end() || it->second.feed.head() == head) return;
  // The core has read the log again: there are events that nobody told of, or some are lost, which
  // no reader was given.
  if (it->second.feed.head() > head) it->second.feed = WatchFeed(head);
  it->second.feed.SkipTo(head);
  for (const std::int64_t id : it->second.readers) {
    Reader& reader = readers_.at(id);
    reader.news = true;
    Schedule(id, reader);
  }
}

absl::Duration WatchHub::Poll(Core& core, absl::Duration now) {
  now_ = now;
  if (now >= next_measure_) Measure(core, now);
  for (int n = 0; n < kPollReaders && !timers_.empty() && timers_.begin()->first <= now; ++n) {
    const std::int64_t id = timers_.begin()->second;
    Reader& reader = readers_.at(id);
    Unschedule(id, reader);
    Feed(core, id, reader, now);
  }
  return timers_.empty() ? absl::InfiniteDuration() : timers_.begin()->first;
}

void WatchHub::Measure(Core& core, absl::Duration now) {
  next_measure_ = now + kMeasureEvery;
  stats_.streams = static_cast<std::int64_t>(readers_.size());
  stats_.largest_lag = stats_.bytes = 0;
  // A map's node of a reader, its timer, its places in three sets of ids.
  constexpr std::size_t kFixed = sizeof(Reader) + 6 * 48;
  for (const auto& [id, reader] : readers_) {
    stats_.largest_lag =
        std::max(stats_.largest_lag, core.head(reader.filter.sweep) - reader.cursor);
    stats_.bytes += static_cast<std::int64_t>(kFixed + reader.filter.sweep.capacity() +
                                              reader.filter.trials.size() * (sizeof(int) + 104));
  }
}

void WatchHub::Feed(Core& core, std::int64_t id, Reader& reader, absl::Duration now) {
  const SweepRecord* record = core.state().sweep(reader.filter.sweep);
  Batch batch;
  if (const absl::Status status = Fill(core, reader, batch); !status.ok()) {
    reader.hungry = false;
    return reader.out->End(status);
  }
  reader.news = reader.cursor < reader.sweep->feed.head();
  if (!reader.news) reader.waiting = 0;
  if (reader.filter.counts && record != nullptr) AddCounts(core, id, reader, batch);
  const bool ended = (record == nullptr || HasEnded(record->state)) && !reader.news;
  if (batch.empty() && !ended && now - reader.last_sent >= options_.heartbeat) {
    saeloom::v1::SweepEvent event = Empty(core, reader.cursor);
    event.mutable_heartbeat();
    batch.push_back(Bytes(event));
  }
  if (!batch.empty()) {
    saeloom::v1::SweepEvent token;  // in bytes, a message is the sum of its fields
    token.set_resume_token(ResumeToken(reader.filter.sweep, reader.cursor));
    batch.back() = std::make_shared<const std::string>(*batch.back() + token.SerializeAsString());
    stats_.sent += static_cast<std::int64_t>(batch.size());
    reader.last_sent = now;
    reader.hungry = false;
    reader.out->Give(std::move(batch));
  }
  if (ended) {
    reader.hungry = false;
    return reader.out->End(absl::OkStatus());
  }
  Schedule(id, reader);
}

absl::Status WatchHub::Fill(Core& core, Reader& reader, Batch& batch) {
  const WatchFeed& feed = reader.sweep->feed;
  if (reader.cursor >= feed.head()) {
    reader.catching_up = false;
    return absl::OkStatus();
  }
  if (!reader.filter.lifecycle && !reader.filter.points) {
    reader.cursor = feed.head();
    return absl::OkStatus();
  }
  const bool conflate = reader.filter.conflate > absl::ZeroDuration();
  if (!conflate && !reader.catching_up && reader.cursor >= reader.history &&
      reader.waiting > options_.most_lag) {
    reader.catching_up = true;
    ++stats_.resyncs;
    saeloom::v1::SweepEvent event = Empty(core, reader.cursor);
    event.mutable_resync()->set_latest_seq(feed.head());
    event.mutable_resync()->set_dropped(reader.waiting -
                                        feed.CountNewest(reader.cursor, reader.filter.trials));
    batch.push_back(Bytes(event));
  }
  if ((conflate || reader.catching_up) && reader.cursor >= feed.begin())
    return FillConflated(core, reader, batch);
  if (!feed.Holds(reader.cursor)) return FillHistory(core, reader, batch);
  FillEvery(reader, batch);
  return absl::OkStatus();
}

void WatchHub::Give(Reader& reader, const std::vector<FeedEvent>& events, Batch& batch) {
  for (const FeedEvent& event : events) {
    batch.push_back(event.bytes);
    if (event.point && reader.waiting > 0) --reader.waiting;
  }
}

void WatchHub::FillEvery(Reader& reader, Batch& batch) {
  const WatchFilter& filter = reader.filter;
  std::int64_t upto = 0;
  Give(reader,
       reader.sweep->feed.Events(reader.cursor, filter.trials, filter.lifecycle, filter.points,
                                 kBatchBytes, upto),
       batch);
  reader.cursor = upto;
}

absl::Status WatchHub::FillConflated(Core& core, Reader& reader, Batch& batch) {
  const WatchFilter& filter = reader.filter;
  const WatchFeed& feed = reader.sweep->feed;
  std::int64_t upto = feed.head();
  std::vector<FeedEvent> lifecycle, points;
  if (filter.lifecycle) {
    if (feed.HoldsLifecycle(reader.cursor)) {
      lifecycle = feed.Lifecycle(reader.cursor, filter.trials, kLifecycle);
    } else {
      SAE_ASSIGN_OR_RETURN(const std::vector<LogEvent> events,
                           core.ReadFiltered(filter.sweep, filter.trials, reader.cursor,
                                             static_cast<int>(kLifecycle), true, false, upto));
      for (const LogEvent& event : events) lifecycle.push_back(MakeFeedEvent(event));
    }
    if (lifecycle.size() == kLifecycle) upto = std::min(upto, lifecycle.back().seq);
  }
  if (filter.points) {
    points = feed.NewestPoints(reader.cursor, upto, filter.trials, 4 * kLifecycle);
    if (points.size() == 4 * kLifecycle) upto = std::min(upto, points.back().seq);
  }
  const std::vector<FeedEvent> all = Merge(lifecycle, points, upto);
  for (const FeedEvent& event : all) batch.push_back(event.bytes);
  reader.cursor = upto;
  if (upto >= feed.head()) {
    reader.catching_up = false;
    reader.waiting = 0;
  }
  return absl::OkStatus();
}

absl::Status WatchHub::FillHistory(Core& core, Reader& reader, Batch& batch) {
  const WatchFilter& filter = reader.filter;
  std::int64_t upto = reader.sweep->feed.head();
  SAE_ASSIGN_OR_RETURN(const std::vector<LogEvent> events,
                       core.ReadFiltered(filter.sweep, filter.trials, reader.cursor, kHistoryRows,
                                         filter.lifecycle, filter.points, upto));
  std::vector<FeedEvent> made;
  for (const LogEvent& event : events) made.push_back(MakeFeedEvent(event));
  Give(reader, Merge(made, {}, upto), batch);
  reader.cursor = upto;
  return absl::OkStatus();
}

void WatchHub::AddCounts(Core& core, std::int64_t id, Reader& reader, Batch& batch) {
  Sweep& sweep = *reader.sweep;
  if (reader.counts == sweep.counts) return;
  if (sweep.counts_made != sweep.counts) {
    saeloom::v1::SweepEvent event;
    *event.mutable_time() = ToTimestamp(core.Now());
    const SweepRecord& record = *core.state().sweep(reader.filter.sweep);
    auto& counts = *event.mutable_counts()->mutable_trials();
    for (const TrialState state : AllTrialStates()) {
      if (record.count(state) > 0) counts[ToString(state)] = record.count(state);
    }
    sweep.counts_bytes = event.SerializeAsString();
    sweep.counts_made = sweep.counts;
  }
  saeloom::v1::SweepEvent seq;
  seq.set_seq(reader.cursor);
  batch.push_back(
      std::make_shared<const std::string>(sweep.counts_bytes + seq.SerializeAsString()));
  reader.counts = sweep.counts;
  sweep.know_counts.push_back(id);
}

void WatchHub::Drain() {
  draining_ = true;
  for (auto& [id, reader] : readers_) reader.out->End(Draining());
}

}  // namespace sae::server
