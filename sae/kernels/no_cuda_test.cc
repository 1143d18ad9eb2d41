// Builds without CUDA only: nothing silently runs on the CPU instead.
#include <gtest/gtest.h>

#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/penalty.h"
#include "sae/kernels/device/prepare.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/device/vectors.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::kernels {
namespace {

TEST(NoCuda, SparseDecodeSaysSo) {
  ThreadPool pool(1);
  const std::int64_t indptr[2] = {0, 0};
  float out = 5;
  SparseDecodeParams<float> params;
  params.indptr = indptr;
  params.output = &out;
  params.tokens = 1;
  params.d = 1;
  EXPECT_EQ(SparseDecode(Device::kCuda, params, pool), Error::kUnsupportedDevice);
  EXPECT_EQ(out, 5);
}

// Parameters that would be an error, or nothing to do, where there is a device.
TEST(NoCuda, BackwardKernelsSaySo) {
  const Error expected = Error::kUnsupportedDevice;
  EXPECT_EQ(cuda::Decode({}, nullptr), expected);
  EXPECT_EQ(cuda::PrefixResidual({}, nullptr), expected);
  EXPECT_EQ(cuda::LatentGradient({}, nullptr), expected);
  EXPECT_EQ(cuda::TokenPass({}, nullptr), expected);
  EXPECT_EQ(cuda::AuxResidual({}, nullptr), expected);
  EXPECT_EQ(cuda::ResidualVariance({}, nullptr), expected);
  EXPECT_EQ(cuda::AuxScale({}, nullptr), expected);
  EXPECT_EQ(cuda::BuildIndex({}, nullptr), expected);
  EXPECT_EQ(device::BuildIndexScratchBytes(100, 100), 0);
  EXPECT_EQ(cuda::LatentRuleBackward({}, nullptr), expected);
  EXPECT_EQ(cuda::CodeWeights({}, nullptr), expected);
  EXPECT_EQ(cuda::LatentConstants({}, nullptr), expected);
  EXPECT_EQ(cuda::SinceFired({}, nullptr), expected);
  EXPECT_EQ(cuda::RowUpdate({}, nullptr), expected);
  EXPECT_EQ(cuda::ColumnSums({}, nullptr), expected);
  EXPECT_EQ(cuda::WeightedRowSum({}, nullptr), expected);
  EXPECT_EQ(cuda::Sum({}, nullptr), expected);
  EXPECT_EQ(cuda::SumSquares({}, nullptr), expected);
  EXPECT_EQ(cuda::Subtract({}, nullptr), expected);
  EXPECT_EQ(cuda::AdamVector({}, nullptr), expected);
  EXPECT_EQ(cuda::RowNorms({}, nullptr), expected);
  EXPECT_EQ(cuda::RenormaliseRows({}, nullptr), expected);
  EXPECT_EQ(cuda::Ema({}, nullptr), expected);
  EXPECT_EQ(cuda::TargetMoments({}, nullptr), expected);
  EXPECT_EQ(cuda::FvuScale({}, nullptr), expected);
  EXPECT_EQ(cuda::BiasOnly({}, nullptr), expected);
  EXPECT_EQ(cuda::QuadraticL0({}, nullptr), expected);
  EXPECT_EQ(cuda::BelowSums({}, nullptr), expected);
}

TEST(NoCuda, EncoderSaysSo) {
  std::int32_t count = 7;
  EXPECT_EQ(cuda::Fill({&count, 1, 0}, nullptr), Error::kUnsupportedDevice);
  device::EncodeParams params;
  params.d = 1;
  device::TopKState state;
  state.k = 1;
  state.counts = &count;
  EXPECT_EQ(EncodeTopK(nullptr, params, state, nullptr), Error::kUnsupportedDevice);
  EXPECT_EQ(count, 7);
}

}  // namespace
}  // namespace sae::kernels
