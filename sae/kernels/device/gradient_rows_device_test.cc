// Gradient rows and their index against their partners: bit for bit but for norms, which are
// float64 sums in another order.
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/gradient_rows.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::GradientRowsParams;
using device::RowUpdateParams;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

constexpr std::int64_t kTokens = 23, kLatents = 15;

/// Two terms, the second one of two latents only and switched off or on.
void Rows(DeviceTest& t, std::int64_t d, std::int64_t d_out, bool dense, bool half,
          std::int32_t enabled) {
  HostCodes main = testing::MakeCodes(1, kTokens, kLatents, 0.15, 2);
  HostCodes aux = testing::MakeCodes(2, kTokens, kLatents, 0.1);
  const auto x = Normal<float>(3, kTokens * d), b_dec = Normal<float>(4, d);
  const auto sums = Normal<float>(5, kLatents), x_sum = Normal<float>(6, d);
  const auto g = Normal<float>(7, kTokens * d_out), g2 = Normal<float>(8, kTokens * d_out);
  const auto delta = testing::PerEntry(9, main), aux_delta = testing::PerEntry(10, aux);
  SplitWeights dec(Normal<float>(11, kLatents * d_out));
  std::vector<std::uint16_t> x_half;
  for (const float v : x) x_half.push_back(FloatToBf16(v));

  const auto fill = [&](const auto& put, auto index, auto rows, auto aux_index, auto aux_rows,
                        const std::uint16_t* half_x, const std::int32_t* on) {
    RowUpdateParams p;
    p.latents = kLatents;
    p.d = d;
    p.d_out = d_out;
    p.scale = 0.7F;
    p.rule = dense ? device::RowRule::kFree : device::RowRule::kUnit;
    p.terms_count = 2;
    p.terms[0] = {index, rows, put(main.values), put(delta), put(g), 0, 0x7fffffff, nullptr};
    p.terms[1] = {aux_index, aux_rows, put(aux.values), put(aux_delta), put(g2), 3, 5, on};
    p.b_dec = put(b_dec);
    p.delta_sums = put(sums);
    p.norm_gradient = put(sums);
    if (dense) {
      p.dense_delta = put(sums);
      p.x_sum = put(x_sum);
    }
    if (half) p.x_bf16 = half_x;
    if (!half) p.x = put(x);
    return p;
  };
  std::vector<float> dec_rows(At(kLatents * d_out), -1), enc_rows(At(kLatents * d), -1);
  GradientRowsParams plain{
      fill([](const std::vector<float>& v) { return v.data(); }, main.index(), main.rows.data(),
           aux.index(), aux.rows.data(), x_half.data(), &enabled),
      dec_rows.data(), enc_rows.data()};
  plain.input.w_dec = dec.mutable_view();
  plain::GradientRows(plain);

  GradientRowsParams on{
      fill([&](const std::vector<float>& v) -> const float* { return t.Upload(v, "floats"); },
           testing::UploadIndex(t, main), t.Upload(main.rows, "rows"), testing::UploadIndex(t, aux),
           t.Upload(aux.rows, "aux rows"), t.Upload(x_half, "x"),
           testing::UploadScalar(t, enabled, "enabled")),
      t.Allocate<float>(dec_rows.size(), "dec"), t.Allocate<float>(enc_rows.size(), "enc")};
  on.input.w_dec = {t.Upload(dec.hi, "hi"), t.Upload(dec.lo, "lo")};
  t.Check(cuda::GradientRows(on, t.stream()));
  EXPECT_EQ(t.Download(on.enc, enc_rows.size()), enc_rows);
  if (dense) {
    testing::ExpectNear(t.Download(on.dec, dec_rows.size()), dec_rows, 1e-6, "dec");
  } else {
    EXPECT_EQ(t.Download(on.dec, dec_rows.size()), dec_rows);
  }
}

TEST(GradientRowsDevice, EqualTheirPartner) {
  for (const auto& [d, d_out] : {std::pair{7, 7}, {32, 20}, {300, 300}}) {
    for (const bool dense : {false, true}) {
      RunDeviceTest([&](DeviceTest& t) { Rows(t, d, d_out, dense, !dense, dense ? 1 : 0); });
    }
  }
}

/// Every third row zeros, one a negative zero, one whose last value alone is something.
void Index(DeviceTest& t, std::int64_t rows, std::int64_t d) {
  std::vector<float> values = Normal<float>(1, rows * d);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      float& v = values[At(i * d + j)];
      if (i % 3 == 0) v = i % 2 == 0 ? 0.0F : -0.0F;
      if (i == 4 && j + 1 < d) v = 0;
    }
  }
  if (rows > 7) values[At(7 * d)] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::int32_t> indptr(At(rows + 1), -1), entries(At(rows), -1);
  plain::IndexRows({values.data(), d, {rows, indptr.data(), entries.data()}});
  device::IndexRowsParams p{t.Upload(values, "rows"), d, {rows, nullptr, nullptr}};
  p.out.indptr = t.Allocate<std::int32_t>(indptr.size(), "indptr");
  p.out.entries = t.Upload(std::vector<std::int32_t>(At(rows), -1), "entries");
  t.Check(cuda::IndexRows(p, t.stream()));
  EXPECT_EQ(t.Download(p.out.indptr, indptr.size()), indptr);
  EXPECT_EQ(t.Download(p.out.entries, entries.size()), entries);
}

TEST(IndexRowsDevice, EqualsItsPartner) {
  for (const std::int64_t rows : {1, 33, 1024, 2500}) {
    RunDeviceTest([&](DeviceTest& t) { Index(t, rows, 5); });
  }
  RunDeviceTest([](DeviceTest& t) { Index(t, 40, 70); });
}

// Two halves of a batch: joined, their variance is that of the whole.
TEST(JoinVarianceDevice, PartsMakeTheWhole) {
  constexpr std::int64_t kD = 300, kRows = 8;
  const auto all = Normal<float>(1, 2 * kRows * kD);
  const auto measure = [&](std::int64_t first, std::int64_t rows, std::vector<double>* means) {
    means->assign(At(kD), 0.0);
    double squares = 0;
    for (std::int64_t b = first; b < first + rows; ++b) {
      for (std::int64_t j = 0; j < kD; ++j)
        (*means)[At(j)] += static_cast<double>(all[At(b * kD + j)]) / static_cast<double>(rows);
    }
    for (std::int64_t b = first; b < first + rows; ++b) {
      for (std::int64_t j = 0; j < kD; ++j) {
        const double e = static_cast<double>(all[At(b * kD + j)]) - (*means)[At(j)];
        squares += e * e;
      }
    }
    return squares / static_cast<double>(rows * kD);
  };
  std::vector<double> whole, halves[2];
  const double variance = measure(0, 2 * kRows, &whole);
  const double part[2] = {measure(0, kRows, &halves[0]), measure(kRows, kRows, &halves[1])};
  RunDeviceTest([&](DeviceTest& t) {
    std::vector<double> sums(At(kD + 1), 0.0), plain_sums = sums;
    for (int h = 0; h < 2; ++h) {
      std::vector<double> means = halves[h];
      means.push_back(0);
      double* const on = t.Upload(means, "means");
      t.Check(cuda::JoinVariance({on, kD, 2, false, testing::UploadScalar(t, part[h], "variance")},
                                 t.stream()));
      const std::vector<double> packed = t.Download(on, means.size());
      double own = part[h];
      plain::JoinVariance({means.data(), kD, 2, false, &own});
      for (std::size_t j = 0; j < sums.size(); ++j) {
        sums[j] += packed[j];
        plain_sums[j] += means[j];
      }
    }
    double* const joined = testing::UploadScalar(t, 0.0, "joined");
    t.Check(cuda::JoinVariance({t.Upload(sums, "sums"), kD, 2, true, joined}, t.stream()));
    EXPECT_NEAR(t.Download(joined, 1)[0], variance, 1e-12 * variance);
    double plain = 0;
    plain::JoinVariance({plain_sums.data(), kD, 2, true, &plain});
    EXPECT_NEAR(plain, variance, 1e-12 * variance);
  });
}

TEST(GradientRowsDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Index(t, 2500, 5); });
}

}  // namespace
}  // namespace sae::kernels
