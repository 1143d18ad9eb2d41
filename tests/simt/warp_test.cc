// Warp functions and atomics against plain loops over the lanes.
#include <gtest/gtest.h>

#include "sae/kernels/device.h"
#include "tests/simt/executor_rig.h"

namespace sae::simt {
namespace {

using kernels::Error;

constexpr unsigned kAll = 0xFFFFFFFFU;
constexpr int kFunctions = 12;

SAELOOM_KERNEL void WarpKernel(const int* in, long long* out, int argument, int width) {
  const unsigned t = threadIdx.x;
  const int v = in[t];
  long long* mine = out + kFunctions * t;
  mine[0] = __shfl_sync(kAll, v, argument, width);
  mine[1] = __shfl_up_sync(kAll, v, static_cast<unsigned>(argument), width);
  mine[2] = __shfl_down_sync(kAll, v, static_cast<unsigned>(argument), width);
  mine[3] = __shfl_xor_sync(kAll, v, argument);
  mine[4] = __ballot_sync(kAll, v & 1);
  mine[5] = __any_sync(kAll, v == 3);
  mine[6] = __all_sync(kAll, v < 4);
  mine[7] = __match_any_sync(kAll, v);
  mine[8] = __reduce_add_sync(kAll, v);
  mine[9] = __reduce_min_sync(kAll, v);
  mine[10] = __reduce_max_sync(kAll, v);
  mine[11] = __reduce_max_sync(kAll, static_cast<unsigned>(v));
}

std::vector<long long> Expected(const std::vector<int>& in, int argument, int width) {
  std::vector<long long> out(in.size() * kFunctions);
  for (int t = 0; t < static_cast<int>(in.size()); ++t) {
    const int first = t / 32 * 32, lane = t % 32, base = lane / width * width;
    const auto at = [&](int l) { return in[static_cast<std::size_t>(first + l)]; };
    long long* mine = out.data() + kFunctions * t;
    mine[0] = at(base + argument % width);
    mine[1] = at(lane - argument < base ? lane : lane - argument);
    mine[2] = at(lane + argument >= base + width ? lane : lane + argument);
    mine[3] = at(lane ^ argument);
    mine[6] = 1;
    mine[9] = mine[10] = at(0);
    mine[11] = static_cast<unsigned>(at(0));
    int sum = 0;
    for (int l = 0; l < 32; ++l) {
      const int v = at(l);
      mine[4] |= static_cast<long long>(v & 1) << l;
      if (v == 3) mine[5] = 1;
      if (v >= 4) mine[6] = 0;
      if (v == at(lane)) mine[7] |= 1LL << l;
      sum += v;
      mine[9] = std::min<long long>(mine[9], v);
      mine[10] = std::max<long long>(mine[10], v);
      mine[11] = std::max<long long>(mine[11], static_cast<unsigned>(v));
    }
    mine[8] = sum;
  }
  return out;
}

TEST(Warp, FunctionsMatchPlainLoops) {
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (const int width : {4, 16, 32}) {
      for (const int argument : {0, 1, 3}) {
        std::vector<int> in(96);
        for (std::size_t i = 0; i < in.size(); ++i) {
          in[i] = static_cast<int>((i * i + i / 32 * 5 + seed) % 7) - (i >= 64 ? 3 : 0);
        }
        Rig rig(seed);
        const int* device = rig.Upload(in, "in");
        long long* out = rig.Buffer<long long>(96 * kFunctions, "out");
        ASSERT_EQ(SAELOOM_LAUNCH(WarpKernel, 1, 96, 0, rig.stream(), device, out, argument, width),
                  Error::kOk);
        EXPECT_EQ(rig.Download(out, 96 * kFunctions), Expected(in, argument, width))
            << "width " << width << ", argument " << argument;
      }
    }
  }
}

SAELOOM_KERNEL void WideShuffleKernel(double* out) {
  const double v = 1.0 / (1 + threadIdx.x);
  out[threadIdx.x] = __shfl_xor_sync(kAll, v, 1);
}

TEST(Warp, ShufflesEightBytes) {
  Rig rig(3);
  double* out = rig.Buffer<double>(32, "out");
  ASSERT_EQ(SAELOOM_LAUNCH(WideShuffleKernel, 1, 32, 0, rig.stream(), out), Error::kOk);
  const auto result = rig.Download(out, 32);
  for (unsigned i = 0; i < 32; ++i) EXPECT_EQ(result[i], 1.0 / (1 + (i ^ 1U)));
}

SAELOOM_KERNEL void AtomicsKernel(unsigned* u, int* i, unsigned long long* l, float* f) {
  const unsigned t = threadIdx.x + blockIdx.x * blockDim.x;
  atomicAdd(&u[0], 1U);
  atomicMax(&u[1], t);
  atomicMin(&u[2], t + 5);
  atomicOr(&u[3], 1U << (t % 32));
  atomicAdd(&i[0], -2);
  atomicMin(&i[1], -static_cast<int>(t));
  atomicAdd(l, 1ULL << 33);
  atomicAdd(f, 0.5F);
  if (atomicCAS(&u[4], 7U, t) == 7U) atomicAdd(&u[5], 1U);
}

TEST(Warp, Atomics) {
  Rig rig(2);
  unsigned* u = rig.Upload(std::vector<unsigned>{0, 0, 1000, 0, 7, 0}, "u");
  int* i = rig.Upload(std::vector<int>{0, 0}, "i");
  unsigned long long* l = rig.Upload(std::vector<unsigned long long>{0}, "l");
  float* f = rig.Upload(std::vector<float>{0}, "f");
  ASSERT_EQ(SAELOOM_LAUNCH(AtomicsKernel, 3, 64, 0, rig.stream(), u, i, l, f), Error::kOk);
  const auto us = rig.Download(u, 6);
  EXPECT_EQ(us[0], 192U);
  EXPECT_EQ(us[1], 191U);
  EXPECT_EQ(us[2], 5U);
  EXPECT_EQ(us[3], kAll);
  EXPECT_NE(us[4], 7U);
  EXPECT_EQ(us[5], 1U);
  EXPECT_EQ(rig.Download(i, 2), (std::vector<int>{-384, -191}));
  EXPECT_EQ(rig.Download(l, 1)[0], 192ULL << 33);
  EXPECT_EQ(rig.Download(f, 1)[0], 96.0F);
}

TEST(Warp, BitFunctions) {
  EXPECT_EQ(__popc(0xF0U), 4);
  EXPECT_EQ(__popcll(~0ULL), 64);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__brev(1U), 0x80000000U);
  EXPECT_EQ(__brev(0x12345678U), 0x1E6A2C48U);
  EXPECT_EQ(__float_as_uint(1.0F), 0x3F800000U);
  EXPECT_EQ(__int_as_float(0x40000000), 2.0F);
}

}  // namespace
}  // namespace sae::simt
