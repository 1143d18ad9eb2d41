#include "sae/comm/inproc/group.h"

#include <utility>

#include "sae/base/clock.h"

namespace sae::comm {

Group::Group(int size, absl::Duration deadline)
    : size_(size),
      deadline_(deadline),
      calls_(static_cast<std::size_t>(size)),
      present_(static_cast<std::size_t>(size), 0) {}

absl::Status Group::Enter(int rank, Call call) {
  MutexLock lock(mu_);
  if (!failed_.ok()) return absl::AbortedError(Message(failed_));
  const std::string operation = call.operation;
  calls_[static_cast<std::size_t>(rank)] = std::move(call);
  present_[static_cast<std::size_t>(rank)] = 1;
  const std::uint64_t round = round_;
  if (++arrived_ == size_) {
    Complete();
  } else {
    SAE_RETURN_IF_ERROR(WaitForAll(round, operation));
  }
  if (verdict_.ok()) return absl::OkStatus();
  const absl::Status verdict = verdict_;  // all ranks get it; no data moves
  if (--inside_ == 0) changed_.NotifyAll();
  while (inside_ > 0) changed_.Wait(mu_);
  return verdict;
}

void Group::Complete() {
  verdict_ = absl::OkStatus();
  for (int r = 1; r < size_; ++r) {
    const std::string& other = calls_[static_cast<std::size_t>(r)].operation;
    if (other != calls_[0].operation) {
      verdict_ =
          absl::InvalidArgumentError(absl::StrCat("ranks call different operations: rank 0 ",
                                                  calls_[0].operation, ", rank ", r, " ", other));
      break;
    }
  }
  arrived_ = 0;
  inside_ = size_;
  present_.assign(static_cast<std::size_t>(size_), 0);
  splitting_.clear();
  ++round_;
  changed_.NotifyAll();
}

absl::Status Group::WaitForAll(std::uint64_t round, const std::string& operation) {
  const absl::Duration end = RealClock().SinceBoot() + deadline_;
  // A round that is complete goes on even when the group fails meanwhile: others already move its
  // data.
  while (round_ == round) {
    if (!failed_.ok()) return failed_;
    const absl::Duration left = end - RealClock().SinceBoot();
    if (left <= absl::ZeroDuration()) return TimedOut(operation);
    changed_.WaitFor(mu_, left);
  }
  return absl::OkStatus();
}

absl::Status Group::TimedOut(const std::string& operation) {
  std::string missing;
  for (int r = 0; r < size_; ++r) {
    if (present_[static_cast<std::size_t>(r)] == 0)
      absl::StrAppend(&missing, missing.empty() ? "" : ", ", r);
  }
  failed_ = absl::DeadlineExceededError(absl::StrCat(operation, ": no sign of rank ", missing,
                                                     " within ", absl::FormatDuration(deadline_)));
  changed_.NotifyAll();
  return failed_;
}

void Group::Leave() {
  MutexLock lock(mu_);
  if (--inside_ == 0) changed_.NotifyAll();
  while (inside_ > 0)
    changed_.Wait(mu_);  // it cannot grow again before this rank enters the next round
}

void Group::Abort(const std::string& reason) {
  std::vector<std::weak_ptr<Group>> children;
  {
    MutexLock lock(mu_);
    if (failed_.ok()) failed_ = absl::AbortedError(reason);
    children = children_;
    changed_.NotifyAll();
  }
  for (const std::weak_ptr<Group>& child : children) {
    if (const std::shared_ptr<Group> group = child.lock()) group->Abort(reason);
  }
}

std::shared_ptr<Group> Group::Child(int color, int size) {
  MutexLock lock(mu_);
  std::shared_ptr<Group>& group = splitting_[color];
  if (group == nullptr) {
    group = std::make_shared<Group>(size, deadline_);
    children_.push_back(group);
    if (!failed_.ok()) group->Abort(Message(failed_));
  }
  return group;
}

}  // namespace sae::comm
