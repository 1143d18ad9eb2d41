// What kernels compute under the executor, and the mistakes it finds in them.
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "sae/kernels/device.h"
#include "tests/simt/executor_rig.h"
#include "tests/simt/mutation.h"

namespace sae::simt {
namespace {

using kernels::Error;
using ::testing::AllOf;
using ::testing::HasSubstr;

SAELOOM_DEVICE int BlockSum(int value) {
  SAELOOM_SHARED(int, sums, 1024);
  sums[threadIdx.x] = value;
  SAELOOM_BARRIER(1);
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    SAELOOM_BARRIER(2);
  }
  return sums[0];
}

SAELOOM_KERNEL void SumKernel(const int* in, int* out) {
  const int sum = BlockSum(in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

TEST(Executor, ReducesBlocksInEveryOrder) {
  for (const unsigned threads : {1U, 2U, 32U, 256U, 1024U}) {
    const unsigned blocks = 5;
    std::vector<int> in(threads * blocks);
    std::vector<int> expected(blocks, 0);
    for (std::size_t i = 0; i < in.size(); ++i) {
      in[i] = static_cast<int>(i * 7 % 31);
      expected[i / threads] += in[i];
    }
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      Rig rig(seed);
      int* device = rig.Upload(in, "in");
      int* out = rig.Buffer<int>(blocks, "out");
      ASSERT_EQ(SAELOOM_LAUNCH(SumKernel, blocks, threads, 0, rig.stream(), device, out),
                Error::kOk);
      EXPECT_EQ(rig.Download(out, blocks), expected) << threads << " threads, seed " << seed;
    }
  }
}

SAELOOM_KERNEL void IndexKernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  atomicAdd(&out[block * threads + thread], block * 1000 + thread + 1);
}

TEST(Executor, RunsEachThreadOfEachBlockOnce) {
  Rig rig(2);
  unsigned* out = rig.Upload(std::vector<unsigned>(24 * 30, 0U), "out");
  ASSERT_EQ(SAELOOM_LAUNCH(IndexKernel, dim3(2, 3, 4), dim3(5, 3, 2), 0, rig.stream(), out),
            Error::kOk);
  const auto result = rig.Download(out, 24 * 30);
  for (unsigned i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], i / 30 * 1000 + i % 30 + 1);
}

SAELOOM_KERNEL void OrderKernel(int* order, int* next) {
  const int place = atomicAdd(next, 1);
  order[place] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

TEST(Executor, OrdersDiffer) {
  std::set<std::vector<int>> orders;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Rig rig(seed);
    int* order = rig.Buffer<int>(4 * 64, "order");
    int* next = rig.Upload(std::vector<int>{0}, "next");
    ASSERT_EQ(SAELOOM_LAUNCH(OrderKernel, 4, 64, 0, rig.stream(), order, next), Error::kOk);
    orders.insert(rig.Download(order, 4 * 64));
  }
  EXPECT_EQ(orders.size(), 4U);
}

testing::DeviceTestBody SumBody(unsigned threads) {
  return [threads](testing::DeviceTest& test) {
    std::vector<int> in(2 * threads);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i + 1);
    const int* device = test.Upload(in, "in");
    int* out = test.Allocate<int>(2, "out");
    test.Check(SAELOOM_LAUNCH(SumKernel, 2, threads, 0, test.stream(), device, out));
    test.Download(out, 2);
  };
}

std::string FailuresOf(const std::function<void()>& run) {
  ::testing::TestPartResultArray failures;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
    run();
  }
  std::string text;
  for (int i = 0; i < failures.size(); ++i) {
    text += std::string(failures.GetTestPartResult(i).message()) + "\n";
  }
  return text;
}

TEST(Mutation, EveryBarrierOfAReductionIsNeeded) { testing::ExpectBarriersNeeded(SumBody(256)); }

TEST(Mutation, UnneededBarrierMustBeListed) {
  if (!testing::MutantsRun()) GTEST_SKIP() << "this build has a sanitizer";
  // One thread needs no barrier at all.
  EXPECT_THAT(FailuresOf([] { testing::ExpectBarriersNeeded(SumBody(1)); }),
              HasSubstr("barrier executor_test.cc:1 can be deleted unnoticed"));
  testing::ExpectBarriersNeeded(SumBody(1), {{"executor_test.cc", 1, "one thread"}});
  EXPECT_THAT(FailuresOf([] {
                testing::ExpectBarriersNeeded(SumBody(256), {{"executor_test.cc", 1, "wrong"},
                                                             {"executor_test.cc", 77, "gone"}});
              }),
              AllOf(HasSubstr("is listed as a survivor, but its deletion is found"),
                    HasSubstr("does not reach the listed barrier executor_test.cc:77")));
}

SAELOOM_KERNEL void UninitialisedKernel(const float* in, float* out) {
  SAELOOM_SHARED(float, cache, 64);
  if (threadIdx.x < 63) cache[threadIdx.x] = in[threadIdx.x];
  SAELOOM_BARRIER(3);
  out[threadIdx.x] = cache[63 - threadIdx.x];
}

TEST(Mutation, UninitialisedMemoryGivesOtherBits) {
  const auto shared = [](testing::DeviceTest& test) {
    const float* in = test.Upload(std::vector<float>(64, 1.0F), "in");
    float* out = test.Allocate<float>(64, "out");
    test.Check(SAELOOM_LAUNCH(UninitialisedKernel, 1, 64, 0, test.stream(), in, out));
    test.Download(out, 64);
  };
  EXPECT_THAT(FailuresOf([&] { testing::RunDeviceTest(shared); }),
              HasSubstr("the runs do not give the same bits"));
  const auto global = [](testing::DeviceTest& test) {
    test.Download(test.Allocate<float>(64, "out"), 64);
  };
  EXPECT_THAT(FailuresOf([&] { testing::RunDeviceTest(global); }),
              HasSubstr("the runs do not give the same bits"));
}

// --- divergence

SAELOOM_KERNEL void TwoBarriersKernel() {
  if (threadIdx.x < 32) {
    SAELOOM_BARRIER(10);
  } else {
    SAELOOM_BARRIER(11);
  }
}

SAELOOM_KERNEL void EarlyReturnKernel() {
  if (threadIdx.x == 5) return;
  SAELOOM_BARRIER(12);
}

SAELOOM_KERNEL void WarpAndBarrierKernel() {
  if (threadIdx.x == 3) {
    SAELOOM_BARRIER(13);
  } else {
    __ballot_sync(0xFFFFFFFFU, 1);
  }
}

TEST(Executor, FindsDivergentBarriers) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    Rig two(seed);
    ASSERT_EQ(SAELOOM_LAUNCH(TwoBarriersKernel, 1, 64, 0, two.stream()), Error::kOk);
    EXPECT_THAT(two.Wait(), AllOf(HasSubstr("kernel TwoBarriersKernel, block (0,0,0), thread ("),
                                  HasSubstr("divergent barrier"), HasSubstr("executor_test.cc:10"),
                                  HasSubstr("executor_test.cc:11")));
    Rig early(seed);
    ASSERT_EQ(SAELOOM_LAUNCH(EarlyReturnKernel, 1, 64, 0, early.stream()), Error::kOk);
    EXPECT_THAT(early.Wait(), AllOf(HasSubstr("waits at barrier executor_test.cc:12"),
                                    HasSubstr("thread (5,0,0) has ended")));
    EXPECT_THAT(early.Wait(), HasSubstr("has ended"));  // sticky
    Rig warp(seed);
    ASSERT_EQ(SAELOOM_LAUNCH(WarpAndBarrierKernel, 1, 32, 0, warp.stream()), Error::kOk);
    EXPECT_THAT(warp.Wait(), AllOf(HasSubstr("divergent warp"), HasSubstr("__ballot_sync"),
                                   HasSubstr("thread (3,0,0) waits at barrier")));
  }
}

SAELOOM_KERNEL void MaskKernel(int what, unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  switch (what) {
    case 0:  // different masks
      out[lane] = __ballot_sync(lane < 16 ? 0xFFFFFFFFU : 0xFFFF0000U, 1);
      break;
    case 1:  // a lane that is not in its mask
      out[lane] = __ballot_sync(0x0000FFFFU, 1);
      break;
    case 2:  // reads a lane outside the mask
      if (lane < 16) out[lane] = __shfl_sync(0x0000FFFFU, lane, 20);
      break;
    case 3:  // a lane has ended
      if (lane == 7) return;
      out[lane] = __ballot_sync(0xFFFFFFFFU, 1);
      break;
    case 4:  // different functions
      out[lane] = lane == 9 ? __reduce_add_sync(0xFFFFFFFFU, lane) : __ballot_sync(0xFFFFFFFFU, 1);
      break;
    case 5:  // the block has 40 threads
      out[lane] = __ballot_sync(0xFFFFFFFFU, 1);
      break;
    default:  // halves go their own ways, then meet: right
      out[lane] =
          lane < 16 ? __reduce_add_sync(0x0000FFFFU, 1U) : __reduce_add_sync(0xFFFF0000U, 100U);
      out[lane] += __reduce_add_sync(0xFFFFFFFFU, 1U);
  }
}

TEST(Executor, FindsMaskMistakes) {
  const char* expected[] = {"with mask 0x",
                            "does not name its own lane",
                            "reads lane 20, which is not in the mask",
                            "thread (7,0,0) has ended",
                            "__reduce_add_sync",
                            "lane 8 is not there: the block has 40 threads"};
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (int what = 0; what < 7; ++what) {
      Rig rig(seed);
      unsigned* out = rig.Buffer<unsigned>(32, "out");
      ASSERT_EQ(SAELOOM_LAUNCH(MaskKernel, 1, what == 5 ? 40 : 32, 0, rig.stream(), what, out),
                Error::kOk);
      if (what == 6) {
        const auto result = rig.Download(out, 32);
        for (int lane = 0; lane < 32; ++lane) {
          EXPECT_EQ(result[static_cast<std::size_t>(lane)], lane < 16 ? 48U : 1632U);
        }
      } else {
        const std::string error = rig.Wait();
        EXPECT_THAT(error, HasSubstr("kernel MaskKernel"));
        if (what == 3) {
          EXPECT_THAT(error, ::testing::AnyOf(HasSubstr("lane 7 has ended"),
                                              HasSubstr("thread (7,0,0) has ended")));
        } else {
          EXPECT_THAT(error, HasSubstr(expected[what]));
        }
      }
    }
  }
}

// --- kernels that do not end

SAELOOM_KERNEL void SwitchingLoopKernel() {
  for (;;) SAELOOM_BARRIER(20);
}

SAELOOM_KERNEL void SpinKernel(const int* flag) {
  while (__atomic_load_n(flag, __ATOMIC_RELAXED) != 1) {
  }
}

TEST(Executor, EndsKernelsThatDoNotEnd) {
  ExecutorOptions options;
  options.step_limit = 10000;
  options.seconds_limit = 0.2;
  Rig rig(0, nullptr, GuardedMemory::Placement::kEnd, options);
  ASSERT_EQ(SAELOOM_LAUNCH(SwitchingLoopKernel, 1, 64, 0, rig.stream()), Error::kOk);
  EXPECT_THAT(rig.Wait(), HasSubstr("did not end within 10000 switches"));
}

TEST(Executor, EndsALoopWithoutSwitches) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer holds back signals in a loop that calls nothing";
#endif
  ExecutorOptions options;
  options.seconds_limit = 0.2;
  Rig rig(0, nullptr, GuardedMemory::Placement::kEnd, options);
  int* flag = rig.Upload(std::vector<int>{0}, "flag");
  ASSERT_EQ(SAELOOM_LAUNCH(SpinKernel, 2, 32, 0, rig.stream(), flag), Error::kOk);
  EXPECT_THAT(rig.Wait(), AllOf(HasSubstr("kernel SpinKernel, block (0,0,0), thread (0,0,0)"),
                                HasSubstr("did not end within 0.2 s")));
}

// --- limits

SAELOOM_KERNEL void StaticKernel() {
  SAELOOM_SHARED(char, large, 48 * 1024);
  SAELOOM_SHARED(char, one_more, 1);
  large[0] = one_more[0] = 1;
}

SAELOOM_KERNEL void DynamicKernel(int* out, int count) {
  SAELOOM_DYNAMIC_SHARED(int, cache);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    cache[i] = i;
  }
  SAELOOM_BARRIER(21);
  if (threadIdx.x == 0) out[0] = cache[count - 1];
}

TEST(Executor, HoldsTheHardwaresLimits) {
  Rig rig;
  int* out = rig.Buffer<int>(1, "out");
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, 1, 1025, 4, rig.stream(), out, 1), Error::kLaunchFailed);
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, 1, 32, 227 * 1024 + 1, rig.stream(), out, 1),
            Error::kLaunchFailed);
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, dim3(1, 65536), 32, 4, rig.stream(), out, 1),
            Error::kLaunchFailed);
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, 1, 32, 4, nullptr, out, 1), Error::kLaunchFailed);
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, 0, 32, 4, rig.stream(), out, 1), Error::kOk);
  EXPECT_EQ(SAELOOM_LAUNCH(DynamicKernel, 1, 32, 227 * 1024, rig.stream(), out, 227 * 256),
            Error::kOk);
  EXPECT_EQ(rig.Download(out, 1), std::vector<int>{227 * 256 - 1});
  EXPECT_EQ(SAELOOM_LAUNCH(StaticKernel, 1, 32, 0, rig.stream()), Error::kOk);
  EXPECT_THAT(rig.Wait(), HasSubstr("no room for shared array 'one_more' of 1 bytes"));
}

}  // namespace
}  // namespace sae::simt
