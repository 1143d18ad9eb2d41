#pragma once
// The worker's side of its lease: how long its attempts may go on without an answer from the
// coordinator. Times are Clock::SinceBoot. The lease runs from the SENDING of a heartbeat that was
// answered, so it ends here before it ends at the coordinator, whatever the network does. Two marks
// before its end: at kNoticeShare the gangs are asked to save and yield (and the deadline in the
// file `lease` passes, so they do it without an agent, too); at kKillShare they are killed. Pure;
// not thread-safe.

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"

#include "sae/base/env.h"

namespace saeloom::agent {

inline constexpr double kNoticeShare = 0.6;
inline constexpr double kKillShare = 0.8;

class LeaseTracker {
 public:
  /// Registered by a request that was sent at `sent`: counts as an answered heartbeat.
  void Registered(absl::Duration sent, absl::Duration lease);
  void Sent(std::int64_t heartbeat, absl::Duration at);
  /// True when it renewed the lease.
  bool Answered(std::int64_t heartbeat);

  /// Of an earlier incarnation of this worker, from its lease files: its marks hold until
  /// Registered.
  void Inherit(absl::Duration notice, absl::Duration kill);

  /// When gangs are to yield; nullopt before the first Registered or Inherit.
  std::optional<absl::Duration> NoticeAt() const;
  std::optional<absl::Duration> KillAt() const;

 private:
  std::optional<absl::Duration> renewed_at_;
  absl::Duration lease_;
  std::optional<absl::Duration> inherited_notice_, inherited_kill_;
  std::map<std::int64_t, absl::Duration> sent_;  ///< not yet answered; bounded
};

/// The file `lease`: the deadline in nanoseconds since boot as decimal text, and in a second line,
/// for this worker after a restart, when the gang is to be killed. Replaced atomically; not synced,
/// for after a crash of the machine it means nothing.
[[nodiscard]] absl::Status WriteLeaseFile(sae::Env& env, const std::string& path,
                                          absl::Duration deadline, absl::Duration kill);
struct LeaseMarks {
  absl::Duration notice, kill;
};
/// nullopt when there is none, or no number in it.
std::optional<LeaseMarks> ReadLeaseFile(sae::Env& env, const std::string& path);

}  // namespace saeloom::agent
