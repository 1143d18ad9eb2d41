#include "server/auth/audit_queue.h"

#include <algorithm>
#include <utility>

namespace sae::server {

void AuditQueue::Refill() {
  const absl::Duration now = clock_.SinceBoot();
  allowance_ = std::min(limits_.burst, allowance_ + absl::ToDoubleSeconds(now - refilled_) *
                                                        limits_.refusals_per_second);
  refilled_ = now;
}

void AuditQueue::Add(AuditRecord record) {
  MutexLock lock(mu_);
  waiting_.push_back(std::move(record));
}

void AuditQueue::AddRefused(AuditRecord record) {
  MutexLock lock(mu_);
  Refill();
  if (allowance_ < 1) {
    ++left_out_;
    return;
  }
  allowance_ -= 1;
  waiting_.push_back(std::move(record));
}

std::vector<AuditRecord> AuditQueue::Take() {
  MutexLock lock(mu_);
  Refill();
  if (left_out_ > 0 && allowance_ >= 1) {
    allowance_ -= 1;
    AuditRecord summary;
    summary.time = clock_.Now();
    summary.method = "(refusals)";
    summary.resource = absl::StrCat(left_out_, " more refused calls were not recorded");
    summary.code = "PERMISSION_DENIED";
    left_out_ = 0;
    waiting_.push_back(std::move(summary));
  }
  return std::exchange(waiting_, {});
}

}  // namespace sae::server
