#pragma once
// What the log says of the fleet as a whole: queues, and workers on which nothing may start. A fold
// of the events whose sweep is "". Plain data; not thread-safe. Errors of Apply: INTERNAL for an
// event that is not of the fleet.

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "server/core/events.h"

namespace sae::server {

/// The queue of sweeps that name none; it is always there.
inline constexpr char kDefaultQueue[] = "default";

struct QueueRecord {
  std::int64_t quota_slots = 0;  ///< at most in use together; 0 = no limit
  double weight = 1;             ///< of its fair share
  bool operator==(const QueueRecord&) const = default;
};
struct CordonRecord {
  std::string reason;
  bool drain = false;
  bool by_person = false;
  absl::Time since;
};

struct Fleet {
  std::map<std::string, QueueRecord> queues = {{kDefaultQueue, {}}};
  std::map<std::string, CordonRecord> cordons;  ///< by worker

  [[nodiscard]] absl::Status Apply(const LogEvent& event);
  bool cordoned(const std::string& worker) const { return cordons.contains(worker); }
  std::string DebugString() const;
};

/// The queue of a spec: "" means the default one.
inline std::string QueueNameOf(const std::string& queue) {
  return queue.empty() ? kDefaultQueue : queue;
}

}  // namespace sae::server
