// The nccl backend over the fake: the contract and the failures with processes as ranks.
#include <gtest/gtest.h>

#include "tests/contract/communicator_suite.h"
#include "tests/fake_nccl/scenarios.h"
#include "tests/support/temp_dir.h"

namespace fake_nccl {
namespace {

using sae::testing::ExpectAllWell;

std::vector<sae::testing::RankResult> RunRanks(int ranks, const std::string& name) {
  return sae::testing::RunRanks(ranks, name, absl::Seconds(60));
}

/// A rank that has left is missed at once: what comes of it must be the same.
class NcclLeaving : public testing::TestWithParam<std::string> {};

TEST_P(NcclLeaving, Holds) { ExpectAllWell(RunRanks(4, "leaving." + GetParam())); }

std::vector<std::string> CasesThatEndAGroup() {
  std::vector<std::string> names{"AbortOfAPartLeavesTheWhole"};
  for (const sae::comm::contract::Case& test : sae::comm::contract::Cases()) {
    if (test.ends_group) names.push_back(test.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, NcclLeaving, testing::ValuesIn(CasesThatEndAGroup()),
                         [](const auto& p) { return p.param; });

class NcclContract : public testing::TestWithParam<std::tuple<int, std::size_t>> {};

TEST_P(NcclContract, Holds) {
  const auto [ranks, index] = GetParam();
  const sae::comm::contract::Case& test = sae::comm::contract::Cases()[index];
  const sae::comm::contract::Traits nccl{.adds_in_rank_order = false};
  if (!Applies(test, ranks, nccl)) return;  // nothing to ask of it
  ExpectAllWell(RunRanks(ranks, "contract." + test.name));
}

INSTANTIATE_TEST_SUITE_P(All, NcclContract,
                         testing::Combine(testing::Values(1, 2, 4),
                                          testing::Range(std::size_t{0},
                                                         sae::comm::contract::Cases().size())),
                         [](const auto& p) {
                           return "P" + std::to_string(std::get<0>(p.param)) + "_" +
                                  sae::comm::contract::Cases()[std::get<1>(p.param)].name;
                         });

class NcclFault : public testing::TestWithParam<std::string> {};

TEST_P(NcclFault, IsReportedByEveryRank) {
  ExpectAllWell(RunRanks(3, GetParam()), GetParam() == "Dies" ? 2 : -1);
}

class NcclStreams : public testing::TestWithParam<std::string> {};

TEST_P(NcclStreams, Work) { ExpectAllWell(RunRanks(3, GetParam())); }

std::vector<std::string> Names(const std::vector<Scenario>& scenarios) {
  std::vector<std::string> names;
  for (const Scenario& scenario : scenarios) names.push_back(scenario.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, NcclFault, testing::ValuesIn(Names(FaultScenarios())),
                         [](const auto& p) { return p.param; });
INSTANTIATE_TEST_SUITE_P(All, NcclStreams, testing::ValuesIn(Names(StreamScenarios())),
                         [](const auto& p) { return p.param; });

/// Ranks as threads, whose rendezvous is a communicator of the host.
absl::Status OverHostCommunicator(
    absl::Duration deadline, bool hears_leaving,
    const std::function<absl::Status(sae::comm::Communicator&)>& body) {
  const sae::testing::TempDir folder;
  sae::testing::HostRuntime any;  // callbacks go to the stream, whichever runtime is asked
  Configure({.runtime = &any, .folder = folder.path(), .hears_leaving = hears_leaving});
  return sae::comm::RunInProcess(
      3,
      [&](sae::comm::Communicator& host) -> absl::Status {
        sae::testing::HostRuntime runtime;
        SAE_ASSIGN_OR_RETURN(const auto rendezvous, sae::comm::CreateRendezvous(host));
        SAE_ASSIGN_OR_RETURN(void* const stream, runtime.CreateStream());
        absl::Status status;
        {
          const auto c = sae::comm::CreateNccl({.rank = host.rank(),
                                                .size = host.size(),
                                                .rendezvous = rendezvous.get(),
                                                .runtime = &runtime,
                                                .stream = stream,
                                                .deadline = deadline});
          status = c.ok() ? body(**c) : c.status();
        }
        runtime.DestroyStream(stream);
        return status;
      },
      deadline);
}

TEST(Nccl, NamesTheAbsentThroughACommunicator) {
  const absl::Status status = OverHostCommunicator(
      absl::Milliseconds(300), false, [](sae::comm::Communicator& c) -> absl::Status {
        SAE_RETURN_IF_ERROR(c.Barrier());
        if (c.rank() == 2) return absl::OkStatus();
        return Expect(c.Barrier(), absl::StatusCode::kDeadlineExceeded, "no sign of rank 2");
      });
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(Live(), 0);
}

TEST(Nccl, NamesWhoLeftThroughACommunicator) {
  const absl::Status status = OverHostCommunicator(
      absl::Milliseconds(500), true, [](sae::comm::Communicator& c) -> absl::Status {
        for (int i = 0; i < 3; ++i) SAE_RETURN_IF_ERROR(c.Barrier());
        if (c.rank() == 1) return absl::OkStatus();
        return Expect(c.Barrier(), absl::StatusCode::kDeadlineExceeded, "no sign of rank 1 ");
      });
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(Live(), 0);
}

TEST(Nccl, TellsOfAnAbortThroughACommunicator) {
  const absl::Status status = OverHostCommunicator(
      absl::Seconds(30), false, [](sae::comm::Communicator& c) -> absl::Status {
        SAE_ASSIGN_OR_RETURN(const auto part, c.Split(0, 0));
        absl::Status seen = part->Barrier();  // all have the part
        if (c.rank() == 1) c.Abort("the disk is full");
        while (seen.ok()) seen = part->Barrier();
        return Expect(seen, absl::StatusCode::kAborted, "rank 1: the disk is full");
      });
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(Live(), 0);
}

TEST(Nccl, RefusesWhatCannotBe) {
  sae::testing::HostRuntime runtime;
  EXPECT_TRUE(absl::IsInvalidArgument(sae::comm::CreateNccl({}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      sae::comm::CreateNccl({.rank = 2, .size = 2, .runtime = &runtime}).status()));
}

}  // namespace
}  // namespace fake_nccl

int main(int argc, char** argv) {
  sae::testing::RankArguments arguments;
  if (sae::testing::ParseRank(argc, argv, &arguments)) {
    std::vector<fake_nccl::Scenario> all = fake_nccl::ContractScenarios();
    for (const auto& more : {fake_nccl::FaultScenarios(), fake_nccl::StreamScenarios()})
      all.insert(all.end(), more.begin(), more.end());
    return fake_nccl::RankMain(arguments, all);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
