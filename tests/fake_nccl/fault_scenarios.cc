// Each failure that NCCL can show, and what must come of it on every rank.
#include "tests/contract/communicator_suite.h"
#include "tests/fake_nccl/scenarios.h"

namespace fake_nccl {
namespace {

using absl::StatusCode;
using sae::comm::Communicator;
using sae::comm::CreateNccl;

std::function<std::vector<Fault>(int)> OnRank(int rank, const Fault& fault) {
  return [=](int r) { return r == rank ? std::vector<Fault>{fault} : std::vector<Fault>{}; };
}

/// Sums until one fails; that status, or an error after a hundred.
absl::Status SumUntilItFails(Communicator& c, std::int64_t count) {
  for (int i = 0; i < 100; ++i) {
    std::vector<float> data(static_cast<std::size_t>(count), 1.0F);
    SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(data)));
    for (const float value : data) {
      if (value != static_cast<float>(c.size())) return absl::DataLossError("a sum is wrong");
    }
  }
  return absl::DataLossError("no sum failed");
}

/// The faulty rank ends with `code`, the others hear that from it.
std::function<absl::Status(RankContext&)> OneFails(int faulty, StatusCode code) {
  return [=](RankContext& context) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
    const absl::Status status = SumUntilItFails(*c, 300);
    SAE_RETURN_IF_ERROR(c->rank() == faulty
                            ? Expect(status, code, "AllReduce: NCCL: ")
                            : Expect(status, StatusCode::kAborted,
                                     absl::StrCat("rank ", faulty, ": AllReduce: NCCL: ")));
    return Expect(c->Barrier(), StatusCode::kAborted, "AllReduce");
  };
}

absl::Status SlowButSure(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  SAE_ASSIGN_OR_RETURN(const auto part, c->Split(0, -c->rank()));
  for (Communicator* group : {c.get(), part.get()}) {
    std::vector<std::int64_t> data(9000, group->rank());
    SAE_RETURN_IF_ERROR(group->AllReduceSum(std::span<std::int64_t>(data)));
    if (data[8999] != group->size() * (group->size() - 1) / 2)
      return absl::InternalError("a sum is wrong");
  }
  return absl::OkStatus();
}

absl::Status AbsentAtTheStart(RankContext& context) {
  if (context.options.rank == 1) return absl::OkStatus();
  return Expect(CreateNccl(context.options).status(), StatusCode::kDeadlineExceeded,
                "start: no sign of rank 1 ");
}

absl::Status FirstIsAbsentAtTheStart(RankContext& context) {
  if (context.options.rank == 0) return absl::OkStatus();
  return Expect(CreateNccl(context.options).status(), StatusCode::kDeadlineExceeded,
                "no sign of rank 0 within 300ms");
}

absl::Status NobodyStarts(RankContext& context) {
  return Expect(CreateNccl(context.options).status(), StatusCode::kDeadlineExceeded,
                "though every rank is there");
}

absl::Status StartFails(RankContext& context) {
  const auto c = CreateNccl(context.options);
  if (context.options.rank == 1)
    return Expect(c.status(), StatusCode::kUnavailable, "start: NCCL: unhandled system error");
  // The start of the others may end well before they hear of it.
  return Expect(c.ok() ? (*c)->Barrier() : c.status(), StatusCode::kAborted,
                "rank 1: start: NCCL: unhandled system error");
}

absl::Status Hangs(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  SAE_RETURN_IF_ERROR(Expect(SumUntilItFails(*c, 300), StatusCode::kDeadlineExceeded,
                             "not done after 300ms, though every rank is there"));
  // What ran on the device has ended: the stream is free.
  SAE_RETURN_IF_ERROR(context.runtime->Synchronize(context.options.stream));
  return Expect(c->Barrier(), StatusCode::kAborted, "every rank is there");
}

// The failure is told while a graph still holds operations, which its owner destroys only then.
absl::Status HeldByAGraph(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  HoldByGraphs(true);
  const absl::Status status = SumUntilItFails(*c, 300);
  const absl::Status after = c->Barrier();
  HoldByGraphs(false);
  SAE_RETURN_IF_ERROR(Expect(status, StatusCode::kDeadlineExceeded,
                             "not done after 300ms, though every rank is there"));
  return Expect(after, StatusCode::kAborted, "every rank is there");
}

absl::Status Dies(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  const absl::Status status = SumUntilItFails(*c, 100000);
  if (c->rank() == 2) return absl::InternalError("it lives");
  return Expect(status, StatusCode::kDeadlineExceeded, "AllReduce: no sign of rank 2 ");
}

absl::Status StaysOnTheDevice(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  std::vector<float> data(10);
  const absl::Duration start = sae::RealClock().SinceBoot();
  SAE_RETURN_IF_ERROR(Expect(c->AllReduceSum(std::span<float>(data)), StatusCode::kDeadlineExceeded,
                             "though every rank is there"));
  const absl::Duration took = sae::RealClock().SinceBoot() - start;
  if (c->rank() == 1 && took < absl::Milliseconds(300 + 1500))
    return absl::InternalError("it returned while the device still had the buffer");
  return absl::OkStatus();
}

// Rank 0 misses rank 1 at once; rank 2, which is busy with other things, answers when it looks.
absl::Status LeavesWhileOneIsBusy(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  for (int i = 0; i < 5; ++i) SAE_RETURN_IF_ERROR(c->Barrier());
  if (c->rank() == 1) return absl::OkStatus();
  while (c->rank() == 2 && !context.options.rendezvous->Called("world.stuck"))
    sae::RealClock().SleepFor(absl::Milliseconds(1));
  SAE_RETURN_IF_ERROR(Expect(c->Barrier(), StatusCode::kDeadlineExceeded, "no sign of rank 1 "));
  return Expect(c->Barrier(), StatusCode::kAborted, "no sign of rank 1 ");
}

// The same while rank 2 is in an operation of a part: it answers for the whole.
absl::Status LeavesAPart(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  SAE_ASSIGN_OR_RETURN(const auto part, c->Split(0, 0));
  SAE_RETURN_IF_ERROR(part->Barrier());
  if (c->rank() == 1) return absl::OkStatus();
  Communicator& used = c->rank() == 0 ? *c : *part;
  return Expect(used.Barrier(), StatusCode::kDeadlineExceeded, "no sign of rank 1 ");
}

// A rank that loses a peer though all are there keeps what NCCL said, and tells the others, however
// they hear of it.
absl::Status LosesAPeer(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  const absl::Status status = SumUntilItFails(*c, 300);
  return Expect(status, absl::IsAborted(status) ? status.code() : StatusCode::kUnavailable,
                "AllReduce: NCCL: remote process exited");
}

// NCCL still stores the part's communicator when the call that asked for it is long over.
absl::Status SplitEndsLate(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  if (c->rank() == 1) return absl::OkStatus();
  return Expect(c->Split(0, 0).status(), StatusCode::kDeadlineExceeded,
                "Split: no sign of rank 1 ");
}

absl::Status DifferentCalls(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  std::vector<double> data(40);
  const absl::Status status =
      c->rank() == 0 ? c->Broadcast(data.data(), 40, sae::DType::kF64, 1) : c->Barrier();
  if (absl::IsInvalidArgument(status) || absl::IsAborted(status)) return absl::OkStatus();
  return Expect(status, StatusCode::kDeadlineExceeded, "do all make the same calls?");
}

}  // namespace

absl::Status Expect(const absl::Status& status, StatusCode code, const std::string& text) {
  if (status.code() == code && sae::Message(status).find(text) != std::string::npos)
    return absl::OkStatus();
  return absl::InternalError(absl::StrCat("expected ", absl::StatusCodeToString(code), " with '",
                                          text, "', got ", status.ToString()));
}

std::vector<Scenario> ContractScenarios() {
  std::vector<Scenario> scenarios;
  for (const sae::comm::contract::Case& test : sae::comm::contract::Cases()) {
    const auto run = [&test](RankContext& context) -> absl::Status {
      SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
      // A case that aborts the group must find it made on every rank.
      SAE_RETURN_IF_ERROR(context.options.rendezvous->RollCall("made", absl::Seconds(30)));
      return test.run(*c);
    };
    scenarios.push_back({"contract." + test.name, nullptr, run, test.deadline});
    // Whoever is absent has left, and is missed before any deadline.
    scenarios.push_back({"leaving." + test.name, nullptr, run, absl::Seconds(60)});
    scenarios.back().hears_leaving = true;
  }
  return scenarios;
}

std::vector<Scenario> FaultScenarios() {
  const absl::Duration soon = absl::Milliseconds(300);
  const absl::Duration late = absl::Seconds(30);
  const auto slow = [](int) {
    return std::vector<Fault>{{Kind::kSlowStart, -1, 40}, {Kind::kSlowEnqueue, -1, 3}};
  };
  const auto stuck_split = [](int) { return std::vector<Fault>{{Kind::kStuckSplit, -1, 1500}}; };
  return {
      {"SlowButSure", slow, SlowButSure, late},
      {"AbsentAtTheStart", nullptr, AbsentAtTheStart, soon, soon},
      {"FirstIsAbsentAtTheStart", nullptr, FirstIsAbsentAtTheStart, soon, soon},
      {"NobodyStarts", OnRank(1, {Kind::kNeverStarts}), NobodyStarts, soon, soon},
      {"StartFails", OnRank(1, {Kind::kFailedStart}), StartFails, late},
      {"BadEnqueue", OnRank(1, {Kind::kBadEnqueue, 3}), OneFails(1, StatusCode::kInternal), late},
      {"RemoteError", OnRank(0, {Kind::kRemoteError, 3}), OneFails(0, StatusCode::kUnavailable),
       late},
      {"LosesAPeer", OnRank(0, {Kind::kRemoteError, 3}), LosesAPeer, late, late, true},
      {"LeavesWhileOneIsBusy", nullptr, LeavesWhileOneIsBusy, late, late, true},
      {"LeavesAPart", nullptr, LeavesAPart, late, late, true},
      {"Hangs", OnRank(1, {Kind::kHang, 2}), Hangs, soon},
      {"HeldByAGraph", OnRank(1, {Kind::kHang, 2}), HeldByAGraph, soon},
      {"Dies", OnRank(2, {Kind::kDie, 4}), Dies, soon},
      {"StaysOnTheDevice", OnRank(1, {Kind::kStuck, 0, 1500}), StaysOnTheDevice, soon},
      {"SplitEndsLate", stuck_split, SplitEndsLate, soon},
      {"DifferentCalls", nullptr, DifferentCalls, soon},
  };
}

}  // namespace fake_nccl
