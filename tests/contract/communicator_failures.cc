// Bad calls, absent ranks, aborts.
#include <atomic>
#include <thread>

#include "sae/base/clock.h"
#include "tests/contract/communicator_suite.h"

namespace sae::comm::contract {
namespace {

absl::Status RefusesBadArguments(Communicator& c) {
  const auto bad = [](const absl::Status& s) {
    return absl::IsInvalidArgument(s)
               ? absl::OkStatus()
               : absl::InternalError(absl::StrCat("a bad argument gave ", s.ToString()));
  };
  float x = 0;
  SAE_RETURN_IF_ERROR(bad(c.AllReduce(&x, -1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.AllReduce(nullptr, 1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.ReduceScatter(&x, nullptr, 1, DType::kF32, ReduceOp::kSum)));
  SAE_RETURN_IF_ERROR(bad(c.AllToAll(&x, &x, -5, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.Broadcast(&x, 1, DType::kF32, c.size())));
  SAE_RETURN_IF_ERROR(bad(c.Broadcast(&x, 1, DType::kF32, -1)));
  const std::vector<std::int64_t> few(static_cast<std::size_t>(c.size() - 1), 1);
  SAE_RETURN_IF_ERROR(bad(c.AllGatherV(&x, &x, few, DType::kF32)));
  const std::vector<std::int64_t> negative(static_cast<std::size_t>(c.size()), -1);
  SAE_RETURN_IF_ERROR(bad(c.AllGatherV(&x, &x, negative, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.AllToAllV(&x, few, &x, few, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.AllToAllV(&x, negative, &x, negative, DType::kF32)));
  std::vector<std::int64_t> self_send(static_cast<std::size_t>(c.size()), 0);
  const std::vector<std::int64_t> none = self_send;
  self_send[static_cast<std::size_t>(c.rank())] = 1;
  SAE_RETURN_IF_ERROR(bad(c.AllToAllV(&x, self_send, &x, none, DType::kF32)));
  SAE_RETURN_IF_ERROR(bad(c.Split(-1, 0).status()));
  return c.Barrier();  // and the group is as good as before
}

absl::Status MismatchIsRefused(Communicator& c) {
  std::vector<float> data(static_cast<std::size_t>(100 + c.rank()));
  const absl::Status status = c.AllReduceSum(std::span<float>(data));
  if (absl::IsInvalidArgument(status)) return absl::OkStatus();
  // A rank that is not yet told may see that another one gave up.
  if (absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("different sizes gave ", status.ToString()));
}

/// `call` waits for a rank that stays away: it ends by the deadline, names the rank, and the group
/// is finished.
absl::Status ExpectMissing(Communicator& c, int missing,
                           const std::function<absl::Status()>& call) {
  if (c.rank() == missing) return absl::OkStatus();
  const absl::Status status = call();
  if (!absl::IsDeadlineExceeded(status))
    return absl::InternalError(absl::StrCat("got ", status.ToString()));
  if (Message(status).find(absl::StrCat("rank ", missing, " ")) == std::string::npos) {
    return absl::InternalError(
        absl::StrCat("rank ", missing, " is not named: ", status.ToString()));
  }
  if (c.Check().ok()) return absl::InternalError("the group claims to work");
  const absl::Status later = c.Barrier();
  if (!absl::IsAborted(later))
    return absl::InternalError(absl::StrCat("later: ", later.ToString()));
  return absl::OkStatus();
}

absl::Status MissingRankIsNamed(Communicator& c) {
  return ExpectMissing(c, c.size() - 1, [&] {
    std::vector<float> data(10000, 1.0F);
    return c.AllReduceSum(std::span<float>(data));
  });
}

absl::Status MissingRankOfAGatherIsNamed(Communicator& c) {
  return ExpectMissing(c, 0, [&] {
    const std::vector<std::int32_t> mine(100, c.rank());
    std::vector<std::int32_t> all(mine.size() * static_cast<std::size_t>(c.size()));
    return c.AllGather(std::span<const std::int32_t>(mine), std::span<std::int32_t>(all));
  });
}

absl::Status MissingRootIsNamed(Communicator& c) {
  return ExpectMissing(c, 0, [&] {
    std::vector<double> data(100);
    return c.Broadcast(data.data(), 100, DType::kF64, 0);
  });
}

// The rank comes to some operations, and then no more.
absl::Status RankThatLeavesIsNamed(Communicator& c) {
  for (int i = 0; i < 5; ++i) SAE_RETURN_IF_ERROR(c.Barrier());
  return ExpectMissing(c, c.size() - 1, [&] { return c.Barrier(); });
}

absl::Status MissingRankOfASplitIsNamed(Communicator& c) {
  return ExpectMissing(c, c.size() - 1, [&] { return c.Split(0, 0).status(); });
}

absl::Status AbortUnblocksAndSticks(Communicator& c) {
  const int last = c.size() - 1;
  absl::Status status;
  if (c.rank() == last) {
    c.Abort("out of paper");
    status = c.Barrier();
  } else {
    std::vector<double> data(5000, 1.0);
    status = c.AllReduceSum(std::span<double>(data));  // would wait until the deadline
  }
  for (int call = 0; call < 3; ++call) {
    if (!absl::IsAborted(status))
      return absl::InternalError(absl::StrCat("call ", call, ": ", status.ToString()));
    if (Message(status).find("out of paper") == std::string::npos) {
      return absl::InternalError(absl::StrCat("the reason is lost: ", status.ToString()));
    }
    status = c.Barrier();
  }
  return absl::OkStatus();
}

absl::Status AbortFromAnotherThread(Communicator& c) {
  if (c.rank() == c.size() - 1) {
    std::thread other([&c] { c.Abort("from a thread"); });
    other.join();
  }
  const absl::Status status = c.Barrier();
  // A rank may have left the barrier's last message behind only if all had come: nobody has.
  return absl::IsAborted(status) || c.size() == 1 ? absl::OkStatus()
                                                  : absl::InternalError(status.ToString());
}

absl::Status AbortReachesParts(Communicator& c) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(c.rank() == 0 ? 0 : 1, 0));
  absl::Status status = c.Barrier();  // all have their part, though not all may know that yet
  if (c.rank() == 0) {
    c.Abort("the whole");
    return status;
  }
  while (status.ok()) status = part->Barrier();
  return absl::IsAborted(status) ? absl::OkStatus() : absl::InternalError(status.ToString());
}

// The call that waits is on the very rank whose other thread aborts.
absl::Status AbortFreesTheOwnCall(Communicator& c) {
  if (c.rank() != 0) {
    absl::Status status;  // the others hear of it without entering an operation
    while (status.ok()) {
      status = c.Check();
      RealClock().SleepFor(absl::Milliseconds(1));
    }
    return absl::IsAborted(status) ? absl::OkStatus() : absl::InternalError(status.ToString());
  }
  std::thread other([&c] {
    RealClock().SleepFor(absl::Milliseconds(20));
    c.Abort("no more");
  });
  std::vector<float> data(64);
  const absl::Status status = c.AllReduceSum(std::span<float>(data));
  other.join();
  return absl::IsAborted(status) ? absl::OkStatus() : absl::InternalError(status.ToString());
}

absl::Status AbortOfAPartLeavesTheWhole(Communicator& c) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(0, 0));
  absl::Status status = part->Barrier();  // all have the part
  if (c.rank() == 0) part->Abort("this part alone");
  while (status.ok()) status = part->Barrier();
  if (!absl::IsAborted(status)) return absl::InternalError(status.ToString());
  std::int64_t one = 1;
  SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<std::int64_t>(&one, 1)));
  return one == c.size() ? c.Check() : absl::InternalError("the whole lost a rank");
}

// A part that is made after the abort, or under way then, is aborted too.
absl::Status AbortBeforeASplit(Communicator& c) {
  if (c.rank() == 0) c.Abort("too late");
  const absl::StatusOr<std::unique_ptr<Communicator>> part = c.Split(0, 0);
  const absl::Status status = part.ok() ? (*part)->Barrier() : part.status();
  return absl::IsAborted(status) ? absl::OkStatus() : absl::InternalError(status.ToString());
}

}  // namespace

void AppendFailures(std::vector<Case>& cases) {
  const absl::Duration soon = absl::Milliseconds(300);
  const absl::Duration late = absl::Seconds(60);
  const auto add = [&](const char* name, int min_ranks, absl::Duration deadline, auto run) {
    cases.push_back({name, min_ranks, deadline, run});
    cases.back().ends_group = true;
  };
  cases.push_back({"RefusesBadArguments", 1, late, RefusesBadArguments});
  cases.push_back({"AbortOfAPartLeavesTheWhole", 1, late, AbortOfAPartLeavesTheWhole});
  add("MismatchIsRefused", 2, soon, MismatchIsRefused);
  cases.back().needs_mismatch = true;
  add("MissingRankIsNamed", 2, soon, MissingRankIsNamed);
  add("MissingRankOfAGatherIsNamed", 2, soon, MissingRankOfAGatherIsNamed);
  add("MissingRootIsNamed", 2, soon, MissingRootIsNamed);
  add("RankThatLeavesIsNamed", 2, soon, RankThatLeavesIsNamed);
  add("MissingRankOfASplitIsNamed", 2, soon, MissingRankOfASplitIsNamed);
  add("AbortUnblocksAndSticks", 1, late, AbortUnblocksAndSticks);
  add("AbortFromAnotherThread", 1, late, AbortFromAnotherThread);
  add("AbortFreesTheOwnCall", 2, late, AbortFreesTheOwnCall);
  add("AbortReachesParts", 2, late, AbortReachesParts);
  add("AbortBeforeASplit", 1, late, AbortBeforeASplit);
}

}  // namespace sae::comm::contract
