#include "server/core/fleet.h"

namespace sae::server {

absl::Status Fleet::Apply(const LogEvent& event) {
  if (const auto* queue = std::get_if<QueueUpdated>(&event.body)) {
    queues[queue->name] = {queue->quota_slots, queue->weight};
    return absl::OkStatus();
  }
  if (const auto* cordoned = std::get_if<WorkerCordoned>(&event.body)) {
    cordons[cordoned->worker] = {cordoned->reason, cordoned->drain, cordoned->by_person,
                                 event.time};
    return absl::OkStatus();
  }
  if (const auto* uncordoned = std::get_if<WorkerUncordoned>(&event.body)) {
    cordons.erase(uncordoned->worker);
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("event log: fleet seq ", event.seq, ": ", KindOf(event.body), " is of a sweep"));
}

std::string Fleet::DebugString() const {
  std::string out;
  for (const auto& [name, queue] : queues)
    absl::StrAppend(&out, "queue ", name, " ", queue.quota_slots, " ", queue.weight, "\n");
  for (const auto& [worker, cordon] : cordons) {
    absl::StrAppend(&out, "cordon ", worker, " \"", cordon.reason, "\" drain=", cordon.drain,
                    " person=", cordon.by_person, " ",
                    absl::FormatTime(cordon.since, absl::UTCTimeZone()), "\n");
  }
  return out;
}

}  // namespace sae::server
