#include "server/service/watch_hub.h"

#include <algorithm>

#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr int kBatchEvents = 256;  // about 50 KiB of points

absl::Status Draining() {
  return absl::UnavailableError(
      "the coordinator is stopping; resume with after_seq = the last seq seen");
}

}  // namespace

void WatchHub::Add(Core& core, std::int64_t id, const std::string& sweep, std::int64_t after_seq,
                   std::shared_ptr<Out> out) {
  if (draining_) return out->End(Draining());
  if (core.state().sweep(sweep) == nullptr) {
    return out->End(absl::NotFoundError(absl::StrCat("no sweep \"", sweep, "\"")));
  }
  if (after_seq < 0) {
    return out->End(
        absl::InvalidArgumentError(absl::StrCat("after_seq: ", after_seq, ", must be >= 0")));
  }
  if (after_seq > core.head(sweep)) {
    return out->End(absl::OutOfRangeError(
        absl::StrCat("after_seq: ", after_seq, " is beyond the newest event, ", core.head(sweep),
                     "; was it read from another coordinator? Begin at 0")));
  }
  Reader& reader = readers_[id];
  reader.sweep = sweep;
  reader.cursor = after_seq;
  reader.out = std::move(out);
}

void WatchHub::Hungry(std::int64_t id) {
  if (const auto it = readers_.find(id); it != readers_.end()) it->second.hungry = true;
}

void WatchHub::Poll(Core& core, absl::Duration now) {
  stats_.streams = static_cast<std::int64_t>(readers_.size());
  stats_.largest_lag = 0;
  for (auto& [id, reader] : readers_) {
    stats_.largest_lag = std::max(stats_.largest_lag, core.head(reader.sweep) - reader.cursor);
    if (reader.hungry) Feed(core, reader, now);
  }
}

void WatchHub::Feed(Core& core, Reader& reader, absl::Duration now) {
  if (reader.last_sent == absl::ZeroDuration()) reader.last_sent = now;
  std::vector<saeloom::v1::SweepEvent> batch;
  if (core.head(reader.sweep) > reader.cursor) {
    const auto events = core.Read(reader.sweep, reader.cursor, kBatchEvents);
    if (!events.ok()) {
      reader.hungry = false;
      return reader.out->End(events.status());
    }
    for (const LogEvent& event : *events) batch.push_back(EventToProto(event));
    if (!events->empty()) reader.cursor = events->back().seq;
    stats_.sent += static_cast<std::int64_t>(events->size());
  } else if (const SweepRecord* sweep = core.state().sweep(reader.sweep);
             sweep == nullptr || HasEnded(sweep->state)) {  // or it was deleted
    reader.hungry = false;
    return reader.out->End(absl::OkStatus());
  } else if (now - reader.last_sent >= heartbeat_) {
    batch.emplace_back();
    batch.back().set_seq(reader.cursor);
    *batch.back().mutable_time() = ToTimestamp(core.Now());
    batch.back().mutable_heartbeat();
  }
  if (batch.empty()) return;
  reader.hungry = false;
  reader.last_sent = now;
  reader.out->Give(std::move(batch));
}

void WatchHub::Drain() {
  draining_ = true;
  for (auto& [id, reader] : readers_) reader.out->End(Draining());
}

}  // namespace sae::server
