#pragma once
// Audit records on their way to the store. Refused calls cost the caller nothing, so of these only
// a bounded number a second is kept, and one record says how many were not: a storm of them must
// not fill the disk. While nothing can be stored, a bounded number waits, and one record says how
// many had no room. Thread-safe.

#include <vector>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "server/store/event_store.h"

namespace sae::server {

struct AuditLimits {
  double refusals_per_second = 2;
  double burst = 100;
  std::size_t most_waiting = 10'000;
  /// In the store, the newest; older ones are deleted. 0 = all.
  std::int64_t keep = 1'000'000;
};

class AuditQueue {
 public:
  AuditQueue(Clock& clock, const AuditLimits& limits)
      : clock_(clock), limits_(limits), allowance_(limits.burst), refilled_(clock.SinceBoot()) {}

  void Add(AuditRecord record);
  void AddRefused(AuditRecord record);
  /// All that wait.
  std::vector<AuditRecord> Take();
  /// What Take gave and could not be stored: it waits again, before all else.
  void PutBack(std::vector<AuditRecord> records);

 private:
  void Refill() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Keep(AuditRecord record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock& clock_;
  const AuditLimits limits_;
  Mutex mu_;
  std::vector<AuditRecord> waiting_ ABSL_GUARDED_BY(mu_);
  double allowance_ ABSL_GUARDED_BY(mu_);
  absl::Duration refilled_ ABSL_GUARDED_BY(mu_);
  std::int64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;  ///< refusals beyond the limit
  std::int64_t lost_ ABSL_GUARDED_BY(mu_) = 0;      ///< records without room
};

}  // namespace sae::server
