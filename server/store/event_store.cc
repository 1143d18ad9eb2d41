#include "server/store/event_store.h"

#include <algorithm>
#include <iterator>

namespace sae::server {
namespace {

template <typename T>
void MoveTo(std::vector<T>& from, std::vector<T>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

}  // namespace

void Transaction::Append(Transaction next) {
  MoveTo(next.events, events);
  MoveTo(next.acknowledged, acknowledged);
  MoveTo(next.requests, requests);
  MoveTo(next.tokens, tokens);
  MoveTo(next.audit, audit);
}

absl::Status EventStore::ReplayAfter(std::int64_t after,
                                     const std::function<absl::Status(LogEvent)>& visit) {
  if (after == 0) return Replay(visit);
  return absl::UnimplementedError("event log: keeps no snapshots");
}

absl::StatusOr<std::vector<LogEvent>> EventStore::ReadLifecycle(
    const std::string& sweep, const std::optional<std::string>& trial, std::int64_t after,
    int limit) {
  std::vector<LogEvent> out;
  while (static_cast<int>(out.size()) < limit) {
    SAE_ASSIGN_OR_RETURN(std::vector<LogEvent> events, Read(sweep, after, 1024));
    if (events.empty()) break;
    after = events.back().seq;
    for (LogEvent& event : events) {
      if (event.telemetry() || (trial && event.trial != *trial)) continue;
      if (static_cast<int>(out.size()) < limit) out.push_back(std::move(event));
    }
  }
  return out;
}

absl::StatusOr<std::string> EventStore::ReadSnapshotPart(const std::string& sweep, std::int64_t,
                                                         int) {
  return absl::NotFoundError(absl::StrCat("snapshot: no part of ", sweep));
}

absl::Status TakenOver(const std::string& log, std::int64_t found, std::int64_t own) {
  return absl::AbortedError(absl::StrCat(log, ": another coordinator took over (epoch ", found,
                                         ", this one's is ", own,
                                         "); this one ends, the other serves"));
}

}  // namespace sae::server
