// cuBLASLt and cub, or their plain twins, against plain loops.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "sae/kernels/device_library.h"
#include "tests/simt/device_test.h"

namespace sae::kernels::cuda {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;

std::vector<float> Normal(std::uint64_t seed, std::int64_t count) {
  Random random(seed);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = static_cast<float>(random.Normal());
  return out;
}

float Value(float value) { return value; }
float Value(bf16 value) { return Bf16ToFloat(value); }
std::vector<float> Factors(const std::vector<float>& values, float) { return values; }
std::vector<bf16> Factors(const std::vector<float>& values, bf16) {
  std::vector<bf16> out(values.size());
  std::transform(values.begin(), values.end(), out.begin(), FloatToBf16);
  return out;
}

Error Call(DeviceLibrary* library, const GemmParams<float>& p, void* stream) {
  return GemmF32(library, p, stream);
}
Error Call(DeviceLibrary* library, const GemmParams<bf16>& p, void* stream) {
  return GemmBf16(library, p, stream);
}

// Leading dimensions wider than the rows: what lies between must stay as it is.
template <class T>
void CheckGemm(DeviceTest& test, GemmForm form, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, float beta) {
  const std::int64_t pad = 8;
  const std::int64_t a_rows = form == GemmForm::kTN ? k : m;
  const std::int64_t b_rows = form == GemmForm::kNT ? n : k;
  const std::int64_t lda = (form == GemmForm::kTN ? m : k) + pad;
  const std::int64_t ldb = (form == GemmForm::kNT ? k : n) + pad;
  const std::int64_t ldc = n + pad;
  const std::vector<T> a = Factors(Normal(1, a_rows * lda), T{});
  const std::vector<T> b = Factors(Normal(2, b_rows * ldb), T{});
  const std::vector<float> c = Normal(3, m * ldc);
  float* out = test.Upload(c, "c");
  test.Check(Call(
      test.library(),
      {form, m, n, k, test.Upload(a, "a"), lda, test.Upload(b, "b"), ldb, out, ldc, alpha, beta},
      test.stream()));
  const std::vector<float> result = test.Download(out, c.size());
  const auto at = [](const auto& matrix, std::int64_t index) {
    return Value(matrix[static_cast<std::size_t>(index)]);
  };
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < ldc; ++j) {
      const auto index = static_cast<std::size_t>(i * ldc + j);
      if (j >= n) {
        ASSERT_EQ(result[index], c[index]) << "between the rows";
        continue;
      }
      double sum = 0, size = 0;
      float chain = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const float x = at(a, form == GemmForm::kTN ? l * lda + i : i * lda + l);
        const float y = at(b, form == GemmForm::kNT ? j * ldb + l : l * ldb + j);
        sum += static_cast<double>(x) * static_cast<double>(y);
        size += std::abs(static_cast<double>(x) * static_cast<double>(y));
        chain = std::fma(x, y, chain);
      }
      const double expected = alpha * sum + beta * static_cast<double>(c[index]);
      // TF32 would be off by 1e-3 of `size`.
      ASSERT_NEAR(result[index], expected,
                  4e-6 * (std::abs(alpha) * size + std::abs(static_cast<double>(c[index]))))
          << m << " x " << n << " x " << k << " at " << i << ", " << j;
      if (!test.on_gpu() && beta == 0) {
        ASSERT_EQ(result[index], alpha * chain);
      }
    }
  }
}

template <class T>
void CheckForms(DeviceTest& test) {
  for (const GemmForm form : {GemmForm::kNT, GemmForm::kNN, GemmForm::kTN}) {
    CheckGemm<T>(test, form, 37, 24, 65, 1, 0);
    CheckGemm<T>(test, form, 1, 8, 1, 0.5F, 0);
    CheckGemm<T>(test, form, 64, 40, 32, 2, 1);
  }
}

TEST(DeviceLibrary, GemmF32) { RunDeviceTest(CheckForms<float>); }
TEST(DeviceLibrary, GemmBf16) { RunDeviceTest(CheckForms<bf16>); }

TEST(DeviceLibrary, GemmRefusesWrongSizes) {
  RunDeviceTest([](DeviceTest& test) {
    float* memory = test.Allocate<float>(64, "memory");
    GemmParams<float> p{GemmForm::kNT, 4, 4, 4, memory, 4, memory + 16, 4, memory + 32, 4};
    p.lda = 3;
    EXPECT_EQ(GemmF32(test.library(), p, test.stream()), Error::kInvalidArgument);
    p.lda = 4;
    p.k = 0;
    EXPECT_EQ(GemmF32(test.library(), p, test.stream()), Error::kInvalidArgument);
    p.k = 4;
    EXPECT_EQ(GemmF32(nullptr, p, test.stream()), Error::kInvalidArgument);
    p.m = 0;
    EXPECT_EQ(GemmF32(test.library(), p, test.stream()), Error::kOk);
  });
}

void CheckSort(DeviceTest& test, std::int64_t capacity, std::int64_t count, int key_bits,
               bool device_count) {
  Random random(static_cast<std::uint64_t>(capacity));
  const auto size = static_cast<std::size_t>(capacity), used = static_cast<std::size_t>(count);
  std::vector<std::uint32_t> keys(size), values(size), order(used);
  const std::uint64_t range =
      std::min<std::uint64_t>(std::uint64_t{1} << key_bits, std::max<std::uint64_t>(size / 3, 1));
  const std::uint64_t top = (std::uint64_t{1} << key_bits) - 1;  // the largest keys, many equal
  for (std::size_t i = 0; i < size; ++i) {
    keys[i] = static_cast<std::uint32_t>(top - random.Below(range));
    values[i] = static_cast<std::uint32_t>(random.Next());
  }
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t x, std::uint32_t y) { return keys[x] < keys[y]; });
  SortPairsParams p;
  p.keys_in = test.Upload(keys, "keys_in");
  p.values_in = test.Upload(values, "values_in");
  p.keys_out = test.Allocate<std::uint32_t>(size, "keys_out");
  p.values_out = test.Allocate<std::uint32_t>(size, "values_out");
  p.capacity = capacity;
  p.key_bits = key_bits;
  p.scratch_bytes = SortPairsScratchBytes(capacity);
  p.scratch = test.Allocate<char>(p.scratch_bytes, "scratch");
  if (device_count) p.count = test.Upload(std::vector<std::int64_t>{count}, "count");
  test.Check(SortPairs(p, test.stream()));
  const auto sorted = test.Download(p.keys_out, size);
  const auto carried = test.Download(p.values_out, used);
  for (std::size_t i = 0; i < size; ++i) {
    if (i >= used) {
      ASSERT_EQ(sorted[i], 0xFFFFFFFFU);
      continue;
    }
    ASSERT_EQ(sorted[i], keys[order[i]]) << i;
    ASSERT_EQ(carried[i], values[order[i]]) << i;
  }
}

TEST(DeviceLibrary, SortPairs) {
  RunDeviceTest([](DeviceTest& test) {
    CheckSort(test, 1000, 1000, 32, false);
    CheckSort(test, 1000, 613, 32, true);
    CheckSort(test, 777, 500, 9, true);
    CheckSort(test, 5, 0, 14, true);
    CheckSort(test, 1, 1, 1, false);
    CheckSort(test, 0, 0, 32, false);
  });
}

template <class T>
void CheckScan(DeviceTest& test, std::int64_t n, std::int64_t largest) {
  Random random(static_cast<std::uint64_t>(n));
  std::vector<T> in(static_cast<std::size_t>(n));
  std::vector<std::int64_t> expected{0};
  for (T& value : in) {
    value = static_cast<T>(random.Below(static_cast<std::uint64_t>(largest)));
    expected.push_back(expected.back() + static_cast<std::int64_t>(value));
  }
  ExclusiveScanParams<T> p;
  p.in = test.Upload(in, "in");
  p.out = test.Allocate<std::int64_t>(expected.size(), "out");
  p.n = n;
  p.scratch_bytes = ExclusiveScanScratchBytes(n);
  p.scratch = test.Allocate<char>(p.scratch_bytes, "scratch");
  test.Check(ExclusiveScan(p, test.stream()));
  EXPECT_EQ(test.Download(p.out, expected.size()), expected) << n;
}

TEST(DeviceLibrary, ExclusiveScan) {
  RunDeviceTest([](DeviceTest& test) {
    for (const std::int64_t n : {0, 1, 255, 1000}) {
      // The sums leave 32 bits.
      CheckScan<std::uint32_t>(test, n, std::int64_t{1} << 32);
      CheckScan<std::int32_t>(test, n, std::int64_t{1} << 31);
      CheckScan<std::int64_t>(test, n, std::int64_t{1} << 40);
    }
  });
}

}  // namespace
}  // namespace sae::kernels::cuda
