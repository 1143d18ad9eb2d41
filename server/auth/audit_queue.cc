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

void AuditQueue::Keep(AuditRecord record) {
  if (waiting_.size() < limits_.most_waiting) {
    waiting_.push_back(std::move(record));
  } else {
    ++lost_;
  }
}

void AuditQueue::Add(AuditRecord record) {
  MutexLock lock(mu_);
  Keep(std::move(record));
}

void AuditQueue::PutBack(std::vector<AuditRecord> records) {
  MutexLock lock(mu_);
  records.swap(waiting_);  // the older ones are first again
  for (AuditRecord& record : records) Keep(std::move(record));
}

void AuditQueue::AddRefused(AuditRecord record) {
  MutexLock lock(mu_);
  Refill();
  if (allowance_ < 1) {
    ++left_out_;
    return;
  }
  allowance_ -= 1;
  Keep(std::move(record));
}

std::vector<AuditRecord> AuditQueue::Take() {
  MutexLock lock(mu_);
  Refill();
  const auto say = [&](const std::string& method, const std::string& what, absl::StatusCode code)
                       ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
                         AuditRecord summary;
                         summary.time = clock_.Now();
                         summary.method = method;
                         summary.resource = what;
                         summary.code = absl::StatusCodeToString(code);
                         waiting_.push_back(std::move(summary));
                       };
  if (left_out_ > 0 && allowance_ >= 1) {
    allowance_ -= 1;
    say("(refusals)", absl::StrCat(left_out_, " more refused calls were not recorded"),
        absl::StatusCode::kPermissionDenied);
    left_out_ = 0;
  }
  if (lost_ > 0) {
    say("(lost)",
        absl::StrCat(lost_, " records found no room while the event log could not be written"),
        absl::StatusCode::kResourceExhausted);
    lost_ = 0;
  }
  return std::exchange(waiting_, {});
}

}  // namespace sae::server
