#include "worker/agent/lease.h"

#include <algorithm>
#include <sstream>

#include "sae/base/failpoint.h"

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

void LeaseTracker::Inherit(absl::Duration notice, absl::Duration kill) {
  inherited_notice_ = std::max(notice, inherited_notice_.value_or(notice));
  inherited_kill_ = std::max(kill, inherited_kill_.value_or(kill));
}

std::optional<absl::Duration> LeaseTracker::NoticeAt() const {
  if (!renewed_at_) return inherited_notice_;
  return *renewed_at_ + kNoticeShare * lease_;
}

std::optional<absl::Duration> LeaseTracker::KillAt() const {
  if (!renewed_at_) return inherited_kill_;
  return *renewed_at_ + kKillShare * lease_;
}

absl::Status WriteLeaseFile(sae::Env& env, const std::string& path, absl::Duration deadline,
                            absl::Duration kill) {
  const std::string temporary = path + ".new";
  SAE_ASSIGN_OR_RETURN(auto file, env.Create(temporary));
  SAE_RETURN_IF_ERROR(file->Append(absl::StrCat(absl::ToInt64Nanoseconds(deadline), "\n",
                                                absl::ToInt64Nanoseconds(kill), "\n")));
  SAE_RETURN_IF_ERROR(file->Close());
  SAE_FAILPOINT_RETURN("worker.before_lease");
  return env.Rename(temporary, path);
}

std::optional<LeaseMarks> ReadLeaseFile(sae::Env& env, const std::string& path) {
  std::istringstream in(env.Read(path).value_or(""));
  std::int64_t notice = 0, kill = 0;
  if (!(in >> notice) || notice <= 0) return std::nullopt;
  if (!(in >> kill)) kill = notice;
  return LeaseMarks{absl::Nanoseconds(notice), absl::Nanoseconds(kill)};
}

}  // namespace saeloom::agent
