// The device's kernel against its CPU partner, over odd sizes. The same file makes the executor's
// test and the GPU's.
#include <gtest/gtest.h>

#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/test_data.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;

// Two calls: the second, with scales, adds to what the first left.
template <class T>
void MatchesCpu(DeviceTest& test, std::int64_t tokens, std::int64_t latents, std::int64_t d) {
  const Codes<T> codes = testing::RandomCodes<T>(3, tokens, latents, 0.1);
  const auto decoder = testing::Normal<T>(4, latents * d);
  const auto scales = testing::Normal<T>(7, latents);
  auto expected = testing::Normal<T>(6, tokens * d);
  T* out = test.Upload(expected, "output");
  SparseDecodeParams<T> device{test.Upload(codes.indptr, "indptr"),
                               test.Upload(codes.ids, "ids"),
                               test.Upload(codes.values, "values"),
                               test.Upload(decoder, "decoder"),
                               out,
                               tokens,
                               d};
  SparseDecodeParams<T> host{codes.indptr.data(), codes.ids.data(), codes.values.data(),
                             decoder.data(),      expected.data(),  tokens,
                             d};
  const T* device_scales = test.Upload(scales, "row_scale");
  ThreadPool pool(1);
  for (const bool scaled : {false, true}) {
    device.row_scale = scaled ? device_scales : nullptr;
    host.row_scale = scaled ? scales.data() : nullptr;
    test.Check(SparseDecode(Device::kCuda, device, pool, test.stream()));
    ASSERT_EQ(SparseDecode(Device::kCpu, host, pool), Error::kOk);
  }
  // The same order of fused multiply-adds: the same bits.
  EXPECT_EQ(test.Download(out, expected.size()), expected) << tokens << " x " << d;
}

template <class T>
void Sizes(DeviceTest& test) {
  for (const std::int64_t d : {1, 31, 100, 257}) MatchesCpu<T>(test, 33, 50, d);
  MatchesCpu<T>(test, 1, 1, 5);
  MatchesCpu<T>(test, 0, 3, 5);
}

TEST(SparseDecodeDevice, FloatMatchesCpu) { sae::testing::RunDeviceTest(Sizes<float>); }
TEST(SparseDecodeDevice, DoubleMatchesCpu) { sae::testing::RunDeviceTest(Sizes<double>); }
TEST(SparseDecodeDevice, BarriersAreNeeded) { sae::testing::ExpectBarriersNeeded(Sizes<float>); }

}  // namespace
}  // namespace sae::kernels
