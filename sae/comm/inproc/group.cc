#include "sae/comm/inproc/group.h"

#include <algorithm>
#include <utility>

#include "sae/base/clock.h"

namespace sae::comm {
namespace {

std::string Describe(const Call& call, int size) {
  std::string text = absl::StrCat(NameOf(call.operation), " of ", call.count, " dtype ",
                                  static_cast<int>(call.dtype), " parameter ", call.parameter);
  if (call.operation != Operation::kAllGather) return text;
  absl::StrAppend(&text, " counts");
  for (int r = 0; r < size; ++r) absl::StrAppend(&text, " ", call.send[r]);
  return text;
}

/// Whether two ranks make the same call; for an exchange, whether what goes between the two does.
bool Agree(const Call& a, int rank_a, const Call& b, int rank_b, int size) {
  if (a.operation != b.operation || a.count != b.count || a.dtype != b.dtype ||
      a.parameter != b.parameter) {
    return false;
  }
  if (a.operation == Operation::kAllToAll) {
    return a.send[rank_b] == b.receive[rank_a] && b.send[rank_a] == a.receive[rank_b];
  }
  if (a.operation != Operation::kAllGather) return true;
  for (int r = 0; r < size; ++r) {
    if (a.send[r] != b.send[r]) return false;
  }
  return true;
}

absl::Status Compare(const std::vector<Call>& calls) {
  const int size = static_cast<int>(calls.size());
  for (int a = 0; a < size; ++a) {
    // Equal to rank 0's is equal to each other's, but an exchange is pairwise.
    if (a > 0 && calls[0].operation != Operation::kAllToAll) break;
    for (int b = a + 1; b < size; ++b) {
      const Call& first = calls[static_cast<std::size_t>(a)];
      const Call& second = calls[static_cast<std::size_t>(b)];
      if (Agree(first, a, second, b, size)) continue;
      return absl::InvalidArgumentError(absl::StrCat("ranks call different operations: rank ", a,
                                                     " ", Describe(first, size), ", rank ", b, " ",
                                                     Describe(second, size)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Group::Group(int size, absl::Duration deadline)
    : size_(size),
      deadline_(deadline),
      calls_(static_cast<std::size_t>(size)),
      present_(static_cast<std::size_t>(size), 0) {}

absl::Status Group::Enter(int rank, const Call& call) {
  MutexLock lock(mu_);
  if (!failed_.ok()) return absl::AbortedError(Message(failed_));
  calls_[static_cast<std::size_t>(rank)] = call;
  present_[static_cast<std::size_t>(rank)] = 1;
  const std::uint64_t round = round_;
  if (++arrived_ == size_) {
    Complete();
  } else {
    SAE_RETURN_IF_ERROR(WaitForAll(round, call.operation));
  }
  if (verdict_.ok()) return absl::OkStatus();
  const absl::Status verdict = verdict_;  // all ranks get it; no data moves
  if (--inside_ == 0) changed_.NotifyAll();
  while (inside_ > 0) changed_.Wait(mu_);
  return verdict;
}

void Group::Complete() {
  verdict_ = Compare(calls_);
  arrived_ = 0;
  inside_ = size_;
  std::fill(present_.begin(), present_.end(), 0);
  splitting_.clear();
  ++round_;
  changed_.NotifyAll();
}

absl::Status Group::WaitForAll(std::uint64_t round, Operation operation) {
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

absl::Status Group::TimedOut(Operation operation) {
  std::string missing;
  for (int r = 0; r < size_; ++r) {
    if (present_[static_cast<std::size_t>(r)] == 0)
      absl::StrAppend(&missing, missing.empty() ? "" : ", ", r);
  }
  failed_ =
      absl::DeadlineExceededError(absl::StrCat(NameOf(operation), ": no sign of rank ", missing,
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

absl::Status Group::Check() {
  MutexLock lock(mu_);
  return failed_;
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
