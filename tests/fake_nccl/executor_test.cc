// Collectives on the executor's runtime, as a device step uses them: enqueued, then replayed in a
// graph, over the fake NCCL, staged through the host, and alone. Ranks are threads that share one
// device, each with a stream.
#include <functional>

#include <gtest/gtest.h>

#include "sae/comm/nccl/nccl.h"
#include "sae/comm/self/device_self.h"
#include "sae/comm/staging/staging.h"
#include "tests/contract/operation_chain.h"
#include "tests/fake_nccl/fake_nccl.h"
#include "tests/simt/runtime.h"
#include "tests/support/temp_dir.h"

namespace sae::comm {
namespace {

using simt::SimtRuntime;

absl::Status RunChain(Communicator& c, SimtRuntime& runtime, void* stream) {
  contract::Chain chain(c, runtime, stream);
  SAE_RETURN_IF_ERROR(chain.Prepare());
  SAE_RETURN_IF_ERROR(chain.SetInput(1));
  SAE_RETURN_IF_ERROR(chain.Enqueue());
  SAE_RETURN_IF_ERROR(chain.Expect(1));
  c.SetEnqueueOnly(true);
  SAE_RETURN_IF_ERROR(chain.SetInput(2));
  SAE_RETURN_IF_ERROR(chain.Enqueue());
  SAE_RETURN_IF_ERROR(c.Synchronize());
  SAE_RETURN_IF_ERROR(chain.Expect(2));
  return chain.ReplayGraph(5);
}

/// Each rank runs `body` with a stream of its own; then nothing may be left.
void ExpectOnExecutor(int ranks, SimtRuntime& runtime,
                      const std::function<absl::Status(Communicator& host, void* stream)>& body) {
  const absl::Status status = RunInProcess(ranks, [&](Communicator& host) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(void* const stream, runtime.CreateStream());
    const absl::Status result = body(host, stream);
    runtime.DestroyStream(stream);
    return result;
  });
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
}

TEST(CollectivesOnTheExecutor, OverNccl) {
  const sae::testing::TempDir folder;
  SimtRuntime runtime({});
  fake_nccl::Configure({.runtime = &runtime, .folder = folder.path()});
  ExpectOnExecutor(3, runtime, [&](Communicator& host, void* stream) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto rendezvous, CreateRendezvous(host));
    SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl({.rank = host.rank(),
                                                   .size = host.size(),
                                                   .rendezvous = rendezvous.get(),
                                                   .runtime = &runtime,
                                                   .stream = stream}));
    return RunChain(*c, runtime, stream);
  });
  EXPECT_EQ(fake_nccl::Live(), 0);
}

TEST(CollectivesOnTheExecutor, StagedThroughTheHost) {
  SimtRuntime runtime({});
  ExpectOnExecutor(3, runtime, [&](Communicator& host, void* stream) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto c,
                         StageThroughHost(host, {.runtime = &runtime, .stream = stream}));
    return RunChain(*c, runtime, stream);
  });
}

TEST(CollectivesOnTheExecutor, Alone) {
  SimtRuntime runtime({});
  ExpectOnExecutor(1, runtime, [&](Communicator&, void* stream) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto c, CreateDeviceSelf(runtime, stream, absl::Seconds(30)));
    return RunChain(*c, runtime, stream);
  });
}

}  // namespace
}  // namespace sae::comm
