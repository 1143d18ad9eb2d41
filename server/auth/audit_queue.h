#pragma once
// Audit records on their way to the store. Refused calls cost the caller nothing, so of these only
// a bounded number a second is kept, and one record says how many were not: a storm of them must
// not fill the disk. Thread-safe.

#include <vector>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "server/store/event_store.h"

namespace sae::server {

struct AuditLimits {
  double refusals_per_second = 2;
  double burst = 100;
};

class AuditQueue {
 public:
  AuditQueue(Clock& clock, const AuditLimits& limits)
      : clock_(clock), limits_(limits), allowance_(limits.burst), refilled_(clock.SinceBoot()) {}

  void Add(AuditRecord record);
  void AddRefused(AuditRecord record);
  /// All that wait.
  std::vector<AuditRecord> Take();

 private:
  void Refill() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock& clock_;
  const AuditLimits limits_;
  Mutex mu_;
  std::vector<AuditRecord> waiting_ ABSL_GUARDED_BY(mu_);
  double allowance_ ABSL_GUARDED_BY(mu_);
  absl::Duration refilled_ ABSL_GUARDED_BY(mu_);
  std::int64_t left_out_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sae::server
