// The nccl backend on real hardware: ranks are processes that share one GPU. NCCL refuses that
// within a host, so each rank gets a host id of its own, and NCCL goes through the loopback device.
// What this does not exercise: peer-to-peer, shared memory and NVLink transports.
#include <csignal>
#include <cstdio>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sae/comm/nccl/nccl.h"
#include "sae/kernels/cuda_runtime.h"
#include "tests/contract/communicator_suite.h"
#include "tests/contract/on_device.h"
#include "tests/contract/operation_chain.h"
#include "tests/support/rank_group.h"

namespace sae::comm {
namespace {

using sae::testing::RankArguments;

/// Processes take turns on the GPU, and the first operation connects: where one is to succeed, it
/// gets this time at least.
constexpr absl::Duration kShortest = absl::Seconds(2);
constexpr absl::Duration kRollCall = absl::Seconds(1);
constexpr contract::Traits kNccl{.adds_in_rank_order = false, .tells_mismatch = false};

struct Rank {
  const RankArguments& arguments;
  DeviceRuntime& runtime;
  void* stream;
};

/// Runs `body` on a communicator of its own.
absl::Status WithNccl(const Rank& rank, const std::string& name, absl::Duration deadline,
                      const std::function<absl::Status(Communicator&)>& body) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Rendezvous> rendezvous,
                       CreateFileRendezvous({.env = &RealEnv(),
                                             .clock = &RealClock(),
                                             .folder = rank.arguments.folder,
                                             .attempt = name,
                                             .rank = rank.arguments.rank,
                                             .size = rank.arguments.size}));
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> c,
                       CreateNccl({.rank = rank.arguments.rank,
                                   .size = rank.arguments.size,
                                   .rendezvous = rendezvous.get(),
                                   .runtime = &rank.runtime,
                                   .stream = rank.stream,
                                   .deadline = deadline,
                                   .start = absl::Seconds(60),
                                   .roll_call = kRollCall}));
  // A case that aborts the group must find it made on every rank.
  SAE_RETURN_IF_ERROR(rendezvous->RollCall("made", absl::Seconds(60)));
  return body(*c);
}

absl::Duration DeadlineOf(const contract::Case& test) {
  return test.name == "RankThatLeavesIsNamed" ? std::max(test.deadline, kShortest) : test.deadline;
}

/// Cases whose absent rank makes NCCL wait just as another case's does. Each takes a start, a
/// deadline and a roll call, so that one number of ranks is enough for them.
bool SameAsAnother(const contract::Case& test) {
  return test.name == "MissingRankOfAGatherIsNamed" || test.name == "MissingRootIsNamed";
}

/// Runs the cases that leave the group whole; the failures are printed and counted.
absl::Status RunWholeCases(const Rank& rank, Communicator& c, int* failures) {
  contract::OnDevice device(c, rank.runtime, rank.stream);
  for (const contract::Case& test : contract::Cases()) {
    if (test.ends_group || !contract::Applies(test, rank.arguments.size, kNccl)) continue;
    const absl::Status status = test.run(device);
    if (status.ok()) continue;
    ++*failures;
    std::printf("%s: %s\n", test.name.c_str(), status.ToString().c_str());
  }
  return absl::OkStatus();
}

/// The contract: what leaves the group whole on one communicator, for each start takes a while;
/// what ends it on one of its own.
absl::Status Contract(const Rank& rank) {
  int failures = 0;
  SAE_RETURN_IF_ERROR(WithNccl(rank, "contract", absl::Seconds(60),
                               [&](Communicator& c) { return RunWholeCases(rank, c, &failures); }));
  for (const contract::Case& test : contract::Cases()) {
    if (!test.ends_group || !contract::Applies(test, rank.arguments.size, kNccl)) continue;
    if (rank.arguments.size != 2 && SameAsAnother(test)) continue;
    const absl::Status status =
        WithNccl(rank, "contract." + test.name, DeadlineOf(test), [&](Communicator& c) {
          contract::OnDevice device(c, rank.runtime, rank.stream);
          return test.run(device);
        });
    if (status.ok()) continue;
    ++failures;
    std::printf("%s: %s\n", test.name.c_str(), status.ToString().c_str());
  }
  return failures == 0 ? absl::OkStatus()
                       : absl::InternalError(absl::StrCat(failures, " cases failed"));
}

absl::Status Graph(const Rank& rank) {
  return WithNccl(rank, "graph", absl::Seconds(30), [&](Communicator& c) -> absl::Status {
    contract::Chain chain(c, rank.runtime, rank.stream);
    SAE_RETURN_IF_ERROR(chain.Prepare());
    c.SetEnqueueOnly(true);
    for (int round = 0; round < 3; ++round) {
      SAE_RETURN_IF_ERROR(chain.SetInput(round));
      SAE_RETURN_IF_ERROR(chain.Enqueue());
      SAE_RETURN_IF_ERROR(c.Synchronize());
      SAE_RETURN_IF_ERROR(chain.Expect(round));
    }
    return chain.ReplayGraph(10);
  });
}

/// Rank 1 is killed between operations; the others end by a remote error or by the deadline.
absl::Status Dies(const Rank& rank) {
  return WithNccl(rank, "dies", kShortest, [&](Communicator& c) -> absl::Status {
    SAE_RETURN_IF_ERROR(c.Barrier());
    if (c.rank() == 1) ::kill(::getpid(), SIGKILL);
    absl::Status status;
    for (int i = 0; i < 100 && status.ok(); ++i) status = c.Barrier();
    if (status.ok()) return absl::InternalError("barriers go on without a rank");
    std::printf("%s\n", status.ToString().c_str());
    return absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status) ||
                   absl::IsAborted(status)
               ? absl::OkStatus()
               : status;
  });
}

absl::Status RunRank(const RankArguments& arguments) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceRuntime> runtime, kernels::CreateCudaRuntime(0));
  SAE_ASSIGN_OR_RETURN(void* const stream, runtime->CreateStream());
  const Rank rank{arguments, *runtime, stream};
  const absl::Status status = arguments.name == "contract" ? Contract(rank)
                              : arguments.name == "graph"  ? Graph(rank)
                                                           : Dies(rank);
  runtime->DestroyStream(stream);
  return status;
}

/// The reason why nothing can run here, or "".
std::string WhyNot() {
  if (kernels::CudaDeviceCount() == 0) return "no GPU here, or built without SAE_WITH_CUDA";
  return HaveNccl() ? "" : "built without SAE_WITH_NCCL";
}

std::vector<sae::testing::RankResult> StartRanks(int ranks, const std::string& name) {
  return sae::testing::RunRanks(ranks, name, absl::Minutes(4), [](int rank) {
    return std::map<std::string, std::string>{{"NCCL_HOSTID", absl::StrCat("r", rank)},
                                              {"NCCL_SOCKET_IFNAME", "lo"},
                                              {"NCCL_IB_DISABLE", "1"},
                                              {"NCCL_MNNVL_ENABLE", "0"},
                                              {"NCCL_MAX_CTAS", "2"}};
  });
}

class NcclOnOneGpu : public ::testing::TestWithParam<int> {};

TEST_P(NcclOnOneGpu, KeepsTheContract) {
  if (const std::string reason = WhyNot(); !reason.empty()) GTEST_SKIP() << reason;
  sae::testing::ExpectAllWell(StartRanks(GetParam(), "contract"));
}

TEST_P(NcclOnOneGpu, ReplaysGraphs) {
  if (const std::string reason = WhyNot(); !reason.empty()) GTEST_SKIP() << reason;
  sae::testing::ExpectAllWell(StartRanks(GetParam(), "graph"));
}

TEST_P(NcclOnOneGpu, SurvivesTheDeathOfARank) {
  if (const std::string reason = WhyNot(); !reason.empty()) GTEST_SKIP() << reason;
  sae::testing::ExpectAllWell(StartRanks(GetParam(), "dies"), 1);
}

INSTANTIATE_TEST_SUITE_P(Ranks, NcclOnOneGpu, ::testing::Values(2, 4));

}  // namespace
}  // namespace sae::comm

int main(int argc, char** argv) {
  sae::testing::RankArguments arguments;
  if (sae::testing::ParseRank(argc, argv, &arguments)) {
    const absl::Status status = sae::comm::RunRank(arguments);
    if (!status.ok()) std::printf("%s\n", status.ToString().c_str());
    return status.ok() ? 0 : 1;
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
