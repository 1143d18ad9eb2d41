#include "server/service/watch_feed.h"

#include <algorithm>
#include <functional>

#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr std::size_t kWindowEvents = 16'384;
constexpr std::size_t kWindowBytes = std::size_t{4} << 20;

bool Wanted(const FeedEvent& event, const std::vector<int>& trials) {
  return trials.empty() || event.trial < 0 ||
         std::binary_search(trials.begin(), trials.end(), event.trial);
}

std::size_t NamesOf(const Point& point) {
  std::size_t hash = point.evaluation ? 1 : 0;
  for (const auto& [name, value] : point.values)
    hash = hash * 1099511628211U + std::hash<std::string>()(name);
  return hash;
}

auto FirstAfter(const std::deque<FeedEvent>& events, std::int64_t after) {
  return std::upper_bound(events.begin(), events.end(), after,
                          [](std::int64_t seq, const FeedEvent& e) { return seq < e.seq; });
}

}  // namespace

FeedEvent MakeFeedEvent(const LogEvent& event) {
  return {event.seq, TrialIndexOf(event.trial), event.telemetry(),
          std::make_shared<const std::string>(EventToProto(event).SerializeAsString())};
}

void WatchFeed::Add(const LogEvent& event) {
  if (event.seq <= head_) return;
  SkipTo(event.seq - 1);
  head_ = event.seq;
  FeedEvent entry = MakeFeedEvent(event);
  if (const auto* point = std::get_if<Point>(&event.body)) {
    const Series series{entry.trial, NamesOf(*point)};
    const auto [it, added] = newest_.emplace(series, event.seq);
    if (!added) {
      by_seq_.erase(it->second);
      it->second = event.seq;
    }
    by_seq_.emplace_hint(by_seq_.end(), event.seq, std::make_pair(series, entry.bytes));
  } else {
    lifecycle_.push_back(entry);
    if (lifecycle_.size() > kWindowEvents) {
      lifecycle_begin_ = lifecycle_.front().seq;
      lifecycle_.pop_front();
    }
  }
  window_bytes_ += entry.bytes->size();
  window_.push_back(std::move(entry));
  while (window_.size() > kWindowEvents || window_bytes_ > kWindowBytes) {
    window_begin_ = window_.front().seq;
    window_bytes_ -= window_.front().bytes->size();
    window_.pop_front();
  }
}

void WatchFeed::SkipTo(std::int64_t head) {
  if (head <= head_) return;
  head_ = window_begin_ = lifecycle_begin_ = head;
  window_.clear();
  lifecycle_.clear();
  window_bytes_ = 0;
}

std::vector<FeedEvent> WatchFeed::Events(std::int64_t after, const std::vector<int>& trials,
                                         bool lifecycle, bool points, std::size_t most_bytes,
                                         std::int64_t& upto) const {
  std::vector<FeedEvent> out;
  std::size_t bytes = 0;
  upto = head_;
  for (auto it = FirstAfter(window_, after); it != window_.end(); ++it) {
    if (!(it->point ? points : lifecycle) || !Wanted(*it, trials)) continue;
    bytes += it->bytes->size();
    if (bytes > most_bytes && !out.empty()) {
      upto = it->seq - 1;
      break;
    }
    out.push_back(*it);
  }
  return out;
}

std::vector<FeedEvent> WatchFeed::Lifecycle(std::int64_t after, const std::vector<int>& trials,
                                            std::size_t limit) const {
  std::vector<FeedEvent> out;
  for (auto it = FirstAfter(lifecycle_, after); it != lifecycle_.end() && out.size() < limit;
       ++it) {
    if (Wanted(*it, trials)) out.push_back(*it);
  }
  return out;
}

std::vector<FeedEvent> WatchFeed::NewestPoints(std::int64_t after, std::int64_t upto,
                                               const std::vector<int>& trials,
                                               std::size_t limit) const {
  std::vector<FeedEvent> out;
  if (trials.empty()) {
    for (auto it = by_seq_.upper_bound(after);
         it != by_seq_.end() && it->first <= upto && out.size() < limit; ++it) {
      out.push_back({it->first, it->second.first.trial, true, it->second.second});
    }
    return out;
  }
  for (const int trial : trials) {
    for (auto it = newest_.lower_bound({trial, 0}); it != newest_.end() && it->first.trial == trial;
         ++it) {
      if (it->second > after && it->second <= upto)
        out.push_back({it->second, trial, true, by_seq_.at(it->second).second});
    }
  }
  std::sort(out.begin(), out.end(),
            [](const FeedEvent& a, const FeedEvent& b) { return a.seq < b.seq; });
  if (out.size() > limit) out.resize(limit);
  return out;
}

std::int64_t WatchFeed::CountNewest(std::int64_t after, const std::vector<int>& trials) const {
  if (trials.empty())
    return static_cast<std::int64_t>(std::distance(by_seq_.upper_bound(after), by_seq_.end()));
  return static_cast<std::int64_t>(NewestPoints(after, head_, trials, SIZE_MAX).size());
}

}  // namespace sae::server
