#include "worker/agent/lease.h"

#include <algorithm>

namespace saeloom::agent {
namespace {
constexpr std::size_t kMostUnanswered = 1000;
}

void LeaseTracker::Registered(absl::Duration sent, absl::Duration lease) {
  lease_ = lease;
  renewed_at_ = std::max(sent, renewed_at_.value_or(sent));
}

void LeaseTracker::Sent(std::int64_t heartbeat, absl::Duration at) {
  sent_[heartbeat] = at;
  if (sent_.size() > kMostUnanswered) sent_.erase(sent_.begin());
}

bool LeaseTracker::Answered(std::int64_t heartbeat) {
  const auto it = sent_.find(heartbeat);
  if (it == sent_.end() || !renewed_at_) return false;
  const bool renews = it->second > *renewed_at_;
  if (renews) renewed_at_ = it->second;
  sent_.erase(sent_.begin(), std::next(it));
  return renews;
}

std::optional<absl::Duration> LeaseTracker::NoticeAt() const {
  if (!renewed_at_) return std::nullopt;
  return *renewed_at_ + kNoticeShare * lease_;
}

std::optional<absl::Duration> LeaseTracker::KillAt() const {
  if (!renewed_at_) return std::nullopt;
  return *renewed_at_ + kKillShare * lease_;
}

absl::Status WriteLeaseFile(sae::Env& env, const std::string& path, absl::Duration deadline) {
  const std::string temporary = path + ".new";
  SAE_ASSIGN_OR_RETURN(auto file, env.Create(temporary));
  SAE_RETURN_IF_ERROR(file->Append(absl::StrCat(absl::ToInt64Nanoseconds(deadline), "\n")));
  SAE_RETURN_IF_ERROR(file->Close());
  return env.Rename(temporary, path);
}

}  // namespace saeloom::agent
