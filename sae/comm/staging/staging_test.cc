// Staging over in-process ranks, on device memory that the host cannot touch.
#include "sae/comm/staging/staging.h"

#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "tests/contract/communicator_suite.h"
#include "tests/contract/on_device.h"
#include "tests/contract/operation_chain.h"
#include "tests/support/host_runtime.h"

namespace sae::comm {
namespace {

using sae::testing::HostRuntime;

/// Runs `fn` on every rank with a runtime and a stream of its own.
absl::Status RunStaged(
    int ranks, HostRuntime::Memory memory, absl::Duration deadline,
    const std::function<absl::Status(std::unique_ptr<Communicator>, HostRuntime&, void*)>& fn) {
  return RunInProcess(
      ranks,
      [&](Communicator& host) -> absl::Status {
        HostRuntime runtime(memory);
        SAE_ASSIGN_OR_RETURN(void* const stream, runtime.CreateStream());
        absl::Status status;
        {
          auto staged = StageThroughHost(host, {.runtime = &runtime, .stream = stream});
          status = staged.ok() ? fn(*std::move(staged), runtime, stream) : staged.status();
        }
        runtime.DestroyStream(stream);
        if (status.ok() && runtime.live() != 0)
          return absl::InternalError(absl::StrCat(runtime.live(), " things are left"));
        return status;
      },
      deadline);
}

class StagedContract : public ::testing::TestWithParam<std::tuple<int, std::size_t>> {};

TEST_P(StagedContract, Holds) {
  const auto [ranks, index] = GetParam();
  const contract::Case& test = contract::Cases()[index];
  if (!contract::Applies(test, ranks)) return;  // nothing to ask of so few
  const absl::Status status =
      RunStaged(ranks, HostRuntime::Memory::kHidden, test.deadline,
                [&](std::unique_ptr<Communicator> staged, HostRuntime& runtime, void* stream) {
                  contract::OnDevice device(*staged, runtime, stream);
                  return test.run(device);
                });
  EXPECT_EQ(status.ToString(), "OK");
}

INSTANTIATE_TEST_SUITE_P(All, StagedContract,
                         ::testing::Combine(::testing::Values(1, 3),
                                            ::testing::Range(std::size_t{0},
                                                             contract::Cases().size())),
                         [](const auto& p) {
                           return "P" + std::to_string(std::get<0>(p.param)) + "_" +
                                  contract::Cases()[std::get<1>(p.param)].name;
                         });

TEST(Staged, EnqueuesAndReplaysAGraph) {
  const absl::Status status = RunStaged(
      3, HostRuntime::Memory::kHidden, absl::Seconds(30),
      [](std::unique_ptr<Communicator> c, HostRuntime& runtime, void* stream) -> absl::Status {
        contract::Chain chain(*c, runtime, stream);
        SAE_RETURN_IF_ERROR(chain.Prepare());
        c->SetEnqueueOnly(true);
        for (int round = 0; round < 3; ++round) {
          SAE_RETURN_IF_ERROR(chain.SetInput(round));
          SAE_RETURN_IF_ERROR(chain.Enqueue());
          SAE_RETURN_IF_ERROR(c->Synchronize());
          SAE_RETURN_IF_ERROR(chain.Expect(round));
        }
        const int things = runtime.live();
        SAE_RETURN_IF_ERROR(chain.ReplayGraph(5));
        return runtime.live() == things ? absl::OkStatus()
                                        : absl::InternalError("steps of before were not found");
      });
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(Staged, SynchronizeTellsWhatFailed) {
  const absl::Status status = RunStaged(
      2, HostRuntime::Memory::kPlain, absl::Milliseconds(200),
      [](std::unique_ptr<Communicator> c, HostRuntime&, void*) -> absl::Status {
        if (c->rank() == 1) return absl::OkStatus();
        c->SetEnqueueOnly(true);
        std::vector<float> data(10);
        SAE_RETURN_IF_ERROR(c->AllReduceSum(std::span<float>(data)));
        SAE_RETURN_IF_ERROR(c->Barrier());
        const absl::Status first = c->Synchronize();
        if (!absl::IsDeadlineExceeded(first)) return absl::InternalError(first.ToString());
        return c->Synchronize().ok() ? absl::InternalError("it has recovered") : absl::OkStatus();
      });
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(Staged, AStreamThatHangsEndsByTheDeadline) {
  HostRuntime runtime;
  void* const stream = *runtime.CreateStream();
  const std::unique_ptr<Communicator> self = CreateSelf();
  {
    const auto staged = StageThroughHost(
        *self, {.runtime = &runtime, .stream = stream, .deadline = absl::Milliseconds(100)});
    ASSERT_TRUE(staged.ok());
    const auto sleep = [](void*) { RealClock().SleepFor(absl::Milliseconds(400)); };
    ASSERT_TRUE(runtime.HostCallback(sleep, nullptr, stream).ok());
    EXPECT_TRUE(absl::IsDeadlineExceeded((*staged)->Barrier()));
    EXPECT_TRUE(absl::IsAborted((*staged)->Check()));
  }
  runtime.DestroyStream(stream);
}

}  // namespace
}  // namespace sae::comm
