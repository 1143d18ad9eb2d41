// Builds without CUDA only: nothing silently runs on the CPU instead.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sae::kernels
