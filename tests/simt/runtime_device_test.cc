// What every DeviceRuntime promises, on the executor's and on the GPU's.
#include <gtest/gtest.h>

#include "sae/base/device_buffer.h"
#include "tests/simt/device_test.h"

namespace sae {
namespace {

using testing::DeviceTest;
using testing::RunDeviceTest;

template <class T>
T* Get(DeviceTest& test, absl::StatusOr<T*> value) {
  test.Check(value.status());
  return *value;
}

TEST(Runtime, CopiesAndFills) {
  RunDeviceTest([](DeviceTest& test) {
    DeviceRuntime& runtime = test.runtime();
    const std::vector<int> host{1, 2, 3, 4, 5};
    const int* a = test.Upload(host, "a");
    int* b = test.Allocate<int>(5, "b");
    test.Check(runtime.MemsetAsync(b, 0xFF, 20, test.stream()));
    test.Check(runtime.CopyAsync(b + 1, a + 2, 8, test.stream()));
    EXPECT_EQ(test.Download(b, 5), (std::vector<int>{-1, 3, 4, -1, -1}));
    test.Check(runtime.CopyAsync(b, a, 0, test.stream()));
    EXPECT_NE(runtime.DeviceName(), "");
  });
}

TEST(Runtime, BuffersOwnMemory) {
  RunDeviceTest([](DeviceTest& test) {
    auto made = DeviceBuffer<float>::Create(test.runtime(), 3, "floats");
    test.Check(made.status());
    DeviceBuffer<float> buffer = *std::move(made);
    const float host[3] = {1, 2, 3};
    test.Check(buffer.Upload(host, test.stream()));
    DeviceBuffer<float> moved = std::move(buffer);
    EXPECT_EQ(buffer.data(), nullptr);
    float back[3] = {};
    test.Check(moved.Download(back, test.stream()));
    test.Check(test.runtime().Synchronize(test.stream()));
    EXPECT_EQ(back[2], 3);
    auto empty = DeviceBuffer<float>::Create(test.runtime(), 0, "empty");
    test.Check(empty.status());
    EXPECT_EQ(empty->size(), 0);
  });
}

TEST(Runtime, MemoryRunsOut) {
  RunDeviceTest([](DeviceTest& test) {
    const auto info = test.runtime().MemoryInfo();
    test.Check(info.status());
    EXPECT_GT(info->free_bytes, 0);
    EXPECT_LE(info->free_bytes, info->total_bytes);
    const auto refused = test.runtime().Allocate(info->total_bytes + 1, "too much");
    ASSERT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
    EXPECT_NE(Message(refused.status()).find("'too much'"), std::string::npos);
    EXPECT_NE(Message(refused.status()).find("free"), std::string::npos);
    EXPECT_TRUE(absl::IsInvalidArgument(test.runtime().Allocate(-1, "negative").status()));
  });
}

void AddOne(void* data) { ++*static_cast<int*>(data); }
void TimesTen(void* data) { *static_cast<int*>(data) *= 10; }

TEST(Runtime, EventsOrderStreams) {
  RunDeviceTest([](DeviceTest& test) {
    DeviceRuntime& runtime = test.runtime();
    const DeviceStream other(runtime, Get<void>(test, runtime.CreateStream()));
    const DeviceEvent first(runtime, Get<void>(test, runtime.CreateEvent()));
    const DeviceEvent second(runtime, Get<void>(test, runtime.CreateEvent()));
    int value = 0;
    for (int i = 0; i < 50; ++i) {
      test.Check(runtime.HostCallback(&AddOne, &value, test.stream()));
      test.Check(runtime.RecordEvent(first.get(), test.stream()));
      test.Check(runtime.WaitEvent(other.get(), first.get()));
      if (i % 10 == 0) test.Check(runtime.HostCallback(&TimesTen, &value, other.get()));
      test.Check(runtime.RecordEvent(second.get(), other.get()));
      test.Check(runtime.WaitEvent(test.stream(), second.get()));
    }
    test.Check(runtime.SynchronizeEvent(second.get()));
    int expected = 0;
    for (int i = 0; i < 50; ++i) expected = i % 10 == 0 ? (expected + 1) * 10 : expected + 1;
    EXPECT_EQ(value, expected);
    const auto done = runtime.QueryEvent(second.get());
    test.Check(done.status());
    EXPECT_TRUE(*done);
    const auto ms = runtime.ElapsedMs(first.get(), second.get());
    test.Check(ms.status());
    EXPECT_GE(*ms, 0);
  });
}

// origin: copy in, fork, both halves, join, copy out: launched twice with other input.
TEST(Runtime, GraphsReplay) {
  RunDeviceTest([](DeviceTest& test) {
    DeviceRuntime& runtime = test.runtime();
    const DeviceStream other(runtime, Get<void>(test, runtime.CreateStream()));
    const DeviceEvent fork(runtime, Get<void>(test, runtime.CreateEvent()));
    const DeviceEvent join(runtime, Get<void>(test, runtime.CreateEvent()));
    const PinnedMemory pinned(runtime, Get<void>(test, runtime.AllocatePinned(8 * sizeof(int))));
    int* host = static_cast<int*>(pinned.get());
    int* in = test.Allocate<int>(4, "in");
    int* out = test.Allocate<int>(4, "out");
    const std::int64_t half = 2 * sizeof(int);
    for (int i = 0; i < 8; ++i) host[i] = i;
    test.Check(runtime.BeginCapture(test.stream()));
    test.Check(runtime.CopyAsync(in, host, 2 * half, test.stream()));
    test.Check(runtime.RecordEvent(fork.get(), test.stream()));
    test.Check(runtime.WaitEvent(other.get(), fork.get()));
    test.Check(runtime.CopyAsync(out, in + 2, half, other.get()));
    test.Check(runtime.CopyAsync(out + 2, in, half, test.stream()));
    test.Check(runtime.RecordEvent(join.get(), other.get()));
    test.Check(runtime.WaitEvent(test.stream(), join.get()));
    test.Check(runtime.CopyAsync(host + 4, out, 2 * half, test.stream()));
    const DeviceGraph graph(runtime, Get<void>(test, runtime.EndCapture(test.stream())));
    EXPECT_EQ(host[4], 4) << "a capture runs nothing";
    for (int round = 1; round <= 2; ++round) {
      for (int i = 0; i < 4; ++i) host[i] = 10 * round + i;
      test.Check(runtime.LaunchGraph(graph.get(), test.stream()));
      test.Check(runtime.Synchronize(test.stream()));
      const int t = 10 * round;
      EXPECT_EQ(std::vector<int>(host + 4, host + 8), (std::vector<int>{t + 2, t + 3, t, t + 1}));
    }
  });
}

TEST(Runtime, CaptureRefusesWhatWaits) {
  RunDeviceTest([](DeviceTest& test) {
    DeviceRuntime& runtime = test.runtime();
    int* memory = test.Allocate<int>(4, "memory");
    test.Check(runtime.BeginCapture(test.stream()));
    test.Check(runtime.MemsetAsync(memory, 0, 16, test.stream()));
    EXPECT_TRUE(absl::IsFailedPrecondition(runtime.Synchronize(test.stream())));
    // CUDA drops the capture then; either way it ends.
    const auto graph = runtime.EndCapture(test.stream());
    if (graph.ok()) runtime.DestroyGraph(*graph);
    test.Check(runtime.MemsetAsync(memory, 1, 16, test.stream()));
    EXPECT_EQ(test.Download(memory, 4), std::vector<int>(4, 0x01010101));
  });
}

}  // namespace
}  // namespace sae
