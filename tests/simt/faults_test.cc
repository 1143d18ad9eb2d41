// Accesses outside of memory, found by guard pages and by bytes that must not change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/kernels/device.h"
#include "tests/simt/executor_rig.h"

namespace sae::simt {
namespace {

using kernels::Error;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Placement = GuardedMemory::Placement;

SAELOOM_KERNEL void ReadKernel(const float* in, float* out, int index) {
  if (threadIdx.x == 3) out[0] = in[index];
}
SAELOOM_KERNEL void WriteKernel(float* out, int index) {
  if (threadIdx.x == 3) out[index] = 1;
}

TEST(Faults, NamesTheBufferBehindAndBefore) {
  Rig behind(0, nullptr, Placement::kEnd);
  const float* in = behind.Buffer<float>(8, "weights");
  float* out = behind.Buffer<float>(4, "result");
  ASSERT_EQ(SAELOOM_LAUNCH(ReadKernel, 2, 32, 0, behind.stream(), in, out, 8), Error::kOk);
  EXPECT_EQ(behind.Wait(),
            "kernel ReadKernel, block (0,0,0), thread (3,0,0): reads 0 bytes behind the end of "
            "buffer 'weights' (32 bytes)");
  EXPECT_EQ(SAELOOM_LAUNCH(ReadKernel, 2, 32, 0, behind.stream(), in, out, 0),
            Error::kLaunchFailed);  // sticky

  Rig before(0, nullptr, Placement::kStart);
  float* start = before.Buffer<float>(7, "result");
  ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 2, 32, 0, before.stream(), start, -1), Error::kOk);
  EXPECT_EQ(before.Wait(),
            "kernel WriteKernel, block (0,0,0), thread (3,0,0): writes 4 bytes before buffer "
            "'result' (28 bytes)");
}

TEST(Faults, FindsWritesBetweenBufferAndGuard) {
  Rig behind(0, nullptr, Placement::kEnd);
  float* end = behind.Buffer<float>(7, "result");
  ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, behind.stream(), end, 7), Error::kOk);
  EXPECT_EQ(behind.Wait(), "bytes behind the end of buffer 'result' (28 bytes) were written");
  Rig before(0, nullptr, Placement::kEnd);
  float* start = before.Buffer<float>(8, "result");
  ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, before.stream(), start, -1), Error::kOk);
  EXPECT_EQ(before.Wait(), "bytes before buffer 'result' were written");
}

TEST(Faults, NamesFreedBuffers) {
  Rig rig;
  auto memory = rig.runtime().Allocate(64, "old");
  ASSERT_TRUE(memory.ok());
  rig.runtime().Free(*memory);
  ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, rig.stream(), static_cast<float*>(*memory), 0),
            Error::kOk);
  EXPECT_THAT(rig.Wait(), HasSubstr("writes buffer 'old' (64 bytes), which was freed"));
}

TEST(Faults, NamesNull) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "UndefinedBehaviorSanitizer ends the program at arithmetic with null";
#endif
  Rig null;
  ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, null.stream(), static_cast<float*>(nullptr), 2),
            Error::kOk);
  EXPECT_THAT(null.Wait(), HasSubstr("writes at 0x8, which is in no buffer"));
}

SAELOOM_KERNEL void StaticSharedKernel(int index) {
  SAELOOM_SHARED(int, cache, 10);
  int* first = cache;
  first[index] = 1;
}
SAELOOM_KERNEL void DynamicSharedKernel(int index) {
  SAELOOM_DYNAMIC_SHARED(int, cache);
  cache[index] = 1;
}

TEST(Faults, FindsSharedOverruns) {
  Rig array;
  ASSERT_EQ(SAELOOM_LAUNCH(StaticSharedKernel, 1, 32, 0, array.stream(), 10), Error::kOk);
  EXPECT_THAT(array.Wait(), HasSubstr("wrote behind the end of shared array 'cache' (40 bytes)"));
  Rig before;
  ASSERT_EQ(SAELOOM_LAUNCH(StaticSharedKernel, 1, 32, 0, before.stream(), -1), Error::kOk);
  EXPECT_THAT(before.Wait(), HasSubstr("wrote before shared array 'cache'"));
  Rig dynamic;
  ASSERT_EQ(SAELOOM_LAUNCH(DynamicSharedKernel, 1, 32, 64, dynamic.stream(), 16), Error::kOk);
  EXPECT_THAT(dynamic.Wait(),
              HasSubstr("writes behind the end of dynamic shared memory (64 bytes)"));
}

SAELOOM_DEVICE int Deep(int depth) {
  volatile int frame[256];
  frame[depth % 256] = depth;
  return depth == 0 ? frame[0] : Deep(depth - 1) + frame[depth % 256];
}
SAELOOM_KERNEL void DeepKernel(int* out, int depth) { out[threadIdx.x] = Deep(depth); }

TEST(Faults, StackOverflowIsAFailure) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer ends the program at a stack overflow";
#endif
  Rig rig;
  int* out = rig.Buffer<int>(32, "out");
  ASSERT_EQ(SAELOOM_LAUNCH(DeepKernel, 1, 32, 0, rig.stream(), out, 1'000'000), Error::kOk);
  EXPECT_THAT(rig.Wait(), AllOf(HasSubstr("kernel DeepKernel"), HasSubstr("in no buffer")));
}

TEST(Faults, GoesOnWithAnotherRuntime) {
  for (int i = 0; i < 3; ++i) {
    Rig bad;
    float* out = bad.Buffer<float>(4, "out");
    ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, bad.stream(), out, 4), Error::kOk);
    EXPECT_NE(bad.Wait(), "");
    Rig good;
    float* right = good.Buffer<float>(4, "out");
    ASSERT_EQ(SAELOOM_LAUNCH(WriteKernel, 1, 32, 0, good.stream(), right, 3), Error::kOk);
    EXPECT_EQ(good.Download(right + 3, 1), std::vector<float>{1});
  }
}

}  // namespace
}  // namespace sae::simt
