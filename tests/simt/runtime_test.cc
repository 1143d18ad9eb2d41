// Where the executor's runtime is stricter than CUDA, and that its streams are threads.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/device_buffer.h"
#include "tests/simt/executor_rig.h"
#include "tests/simt/simt_device.h"

namespace sae::simt {
namespace {

using ::testing::HasSubstr;

TEST(SimtRuntime, CopiesStayInsideTheirBuffer) {
  Rig rig;
  float* a = rig.Buffer<float>(4, "a");
  float* b = rig.Buffer<float>(4, "b");
  float host[8] = {};
  EXPECT_EQ(Message(rig.runtime().CopyAsync(a + 1, host, 16, rig.stream())),
            "copy of 16 bytes, to: 16 bytes from offset 4 leave buffer 'a' (16 bytes)");
  EXPECT_THAT(Message(rig.runtime().CopyAsync(host, b, 20, rig.stream())),
              HasSubstr("from: 20 bytes from offset 0 leave buffer 'b'"));
  EXPECT_THAT(Message(rig.runtime().CopyAsync(host, host + 4, 8, rig.stream())),
              HasSubstr("neither side is device memory"));
  EXPECT_THAT(Message(rig.runtime().CopyAsync(a, a + 1, 8, rig.stream())), HasSubstr("overlap"));
  EXPECT_THAT(Message(rig.runtime().MemsetAsync(a, 0, 17, rig.stream())),
              HasSubstr("leave buffer 'a'"));
  EXPECT_EQ(rig.Wait(), "");
}

TEST(SimtRuntime, CaptureNeedsPinnedMemoryAndJoinedStreams) {
  Rig rig;
  SimtRuntime& runtime = rig.runtime();
  const DeviceStream other(runtime, *runtime.CreateStream());
  const DeviceEvent event(runtime, *runtime.CreateEvent());
  const DeviceEvent outside(runtime, *runtime.CreateEvent());
  float* a = rig.Buffer<float>(4, "a");
  float host[4] = {};
  ASSERT_TRUE(runtime.RecordEvent(outside.get(), other.get()).ok());
  ASSERT_TRUE(runtime.BeginCapture(rig.stream()).ok());
  EXPECT_THAT(Message(runtime.CopyAsync(a, host, 16, rig.stream())), HasSubstr("AllocatePinned"));
  EXPECT_THAT(Message(runtime.WaitEvent(rig.stream(), outside.get())),
              HasSubstr("recorded outside the capture"));
  EXPECT_THAT(Message(runtime.Allocate(4, "x").status()), HasSubstr("this thread captures"));
  ASSERT_TRUE(runtime.RecordEvent(event.get(), rig.stream()).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(runtime.QueryEvent(event.get()).status()));
  ASSERT_TRUE(runtime.WaitEvent(other.get(), event.get()).ok());
  ASSERT_TRUE(runtime.MemsetAsync(a, 1, 16, other.get()).ok());
  EXPECT_THAT(Message(runtime.EndCapture(other.get()).status()), HasSubstr("did not begin"));
  EXPECT_THAT(Message(runtime.EndCapture(rig.stream()).status()), HasSubstr("was not joined"));
  EXPECT_TRUE(runtime.Synchronize(other.get()).ok());
}

TEST(SimtRuntime, StreamsRunAtTheSameTime) {
  Rig rig;
  const DeviceStream other(rig.runtime(), *rig.runtime().CreateStream());
  std::atomic<int> met{0};
  const auto meet = [&met] {
    ++met;
    for (int i = 0; i < 1'000'000'000 && met.load() < 2; ++i) {
    }
    return met.load() == 2 ? std::string() : std::string("the other stream did not come");
  };
  ASSERT_TRUE(EnqueueOnStream(rig.stream(), meet).ok());
  ASSERT_TRUE(EnqueueOnStream(other.get(), meet).ok());
  EXPECT_EQ(rig.Wait(), "");
}

// Each trial of a group has its streams; freeing memory waits for those of all.
TEST(SimtRuntime, AStreamMayEndWhileAnotherThreadWaitsForAll) {
  Rig rig;
  SimtRuntime& runtime = rig.runtime();
  std::atomic<bool> done{false};
  std::thread frees([&] {
    while (!done) runtime.Free(*runtime.Allocate(16, "short-lived"));
  });
  for (int i = 0; i < 300; ++i) runtime.DestroyStream(*runtime.CreateStream());
  done = true;
  frees.join();
  EXPECT_EQ(rig.Wait(), "");
}

TEST(SimtRuntime, ErrorsAreStickyAndFreeWaiters) {
  Rig rig;
  const DeviceStream other(rig.runtime(), *rig.runtime().CreateStream());
  const DeviceEvent event(rig.runtime(), *rig.runtime().CreateEvent());
  bool ran = false;
  ASSERT_TRUE(EnqueueOnStream(rig.stream(), [] { return std::string("broken"); }).ok());
  // Either refused already or skipped later.
  (void)rig.runtime().RecordEvent(event.get(), rig.stream());
  (void)rig.runtime().WaitEvent(other.get(), event.get());
  EXPECT_EQ(rig.Wait(), "broken");
  EXPECT_EQ(Message(rig.runtime().Synchronize(other.get())), "broken");
  EXPECT_FALSE(EnqueueOnStream(other.get(), [&ran] {
                 ran = true;
                 return std::string();
               }).ok());
  EXPECT_FALSE(ran);
}

TEST(SimtRuntime, MemoryIsCounted) {
  SimtRuntime::Options options;
  options.memory_bytes = 1000;
  SimtRuntime runtime(options);
  const auto first = runtime.Allocate(600, "first");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(Message(runtime.Allocate(401, "second").status()),
            "allocate 'second': 401 bytes needed, 400 of 1000 free");
  EXPECT_EQ(runtime.live_buffers(), 1);
  runtime.Free(*first);
  const auto second = runtime.Allocate(1000, "second");
  ASSERT_TRUE(second.ok());
  runtime.Free(*second);
  EXPECT_EQ(runtime.live_buffers(), 0);
}

}  // namespace
}  // namespace sae::simt
