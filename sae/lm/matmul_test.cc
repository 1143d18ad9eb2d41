#include "sae/lm/matmul.h"

#include <cmath>
#include <cstdlib>

#include <gtest/gtest.h>

#include "sae/base/dtype.h"
#include "sae/base/random.h"

namespace sae::lm {
namespace {

/// 64-byte aligned memory of `n` values.
template <class T>
struct Aligned {
  explicit Aligned(std::int64_t n)
      : data(static_cast<T*>(
            std::aligned_alloc(64, (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64))) {
    std::fill(data, data + n, T{});
  }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  T* data;
};

void ExpectProduct(std::int64_t rows, std::int64_t in, std::int64_t out, Compute compute,
                   MatmulRunner& runner) {
  const std::int64_t padded = MatmulRunner::PaddedRows(rows);
  Random random(static_cast<std::uint64_t>(rows * 1000 + in));
  std::vector<float> weights(static_cast<std::size_t>(out * in));
  for (float& w : weights) w = Bf16ToFloat(FloatToBf16(static_cast<float>(random.Normal())));
  Aligned<float> src(padded * in), dst(padded * out);
  Aligned<std::uint16_t> half(padded * in);
  for (std::int64_t i = 0; i < rows * in; ++i) {
    half.data[i] = FloatToBf16(static_cast<float>(random.Normal()));
    src.data[i] = Bf16ToFloat(half.data[i]);
  }
  auto packed = PackedWeights::Create(weights, out, in, compute);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const void* input = compute == Compute::kF32 ? static_cast<const void*>(src.data) : half.data;
  const absl::Status status = runner.Run(*packed, input, rows, dst.data);
  ASSERT_TRUE(status.ok()) << status;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < out; o += 1 + o % 3) {
      double want = 0;
      for (std::int64_t i = 0; i < in; ++i)
        want += double{src.data[r * in + i]} * weights[static_cast<std::size_t>(o * in + i)];
      // Inputs are exact in bf16, so both types differ from float64 only by float32 accumulation.
      ASSERT_NEAR(dst.data[r * out + o], want, 4e-6 * static_cast<double>(in))
          << rows << " " << in << " " << out;
    }
  }
}

TEST(Matmul, AgainstFloat64) {
  for (const Compute compute : {Compute::kF32, Compute::kBf16}) {
    MatmulRunner runner;
    ExpectProduct(1, 64, 96, compute, runner);
    ExpectProduct(17, 64, 96, compute, runner);
    ExpectProduct(300, 64, 96, compute, runner);  // a whole chunk and a rest
    ExpectProduct(33, 96, 64, compute, runner);
    ExpectProduct(64, 30, 50, compute, runner);
  }
}

TEST(Matmul, SgemmWithStrides) {
  Aligned<float> a(4 * 16), b(4 * 16), c(4 * 16);
  for (int i = 0; i < 64; ++i)
    a.data[i] = static_cast<float>(i % 7), b.data[i] = static_cast<float>(i % 5);
  ASSERT_TRUE(Sgemm(true, 3, 2, 5, a.data, 16, b.data, 16, c.data, 16).ok());
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 2; ++j) {
      float want = 0;
      for (int k = 0; k < 5; ++k) want += a.data[i * 16 + k] * b.data[j * 16 + k];
      EXPECT_EQ(c.data[i * 16 + j], want);
    }
  }
  ASSERT_TRUE(Sgemm(false, 3, 5, 2, a.data, 16, b.data, 16, c.data, 16).ok());
  EXPECT_EQ(c.data[4], a.data[0] * b.data[4] + a.data[1] * b.data[20]);
}

}  // namespace
}  // namespace sae::lm
