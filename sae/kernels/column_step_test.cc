#include "sae/kernels/column_step.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "sae/kernels/row_step.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kLatents = 29, kTokens = 17, kWidth = 24, kBlocks = 8;
constexpr std::int64_t kPart = kWidth / kBlocks;

std::vector<double> Values(std::uint64_t seed, std::int64_t count) {
  Random random(seed);
  std::vector<double> out(static_cast<std::size_t>(count));
  for (double& v : out) v = random.Normal();
  return out;
}

/// Columns of block c of rows [count, kWidth].
std::vector<double> Cut(const std::vector<double>& rows, std::int64_t c) {
  std::vector<double> out;
  for (std::size_t i = 0; i < rows.size(); i += kWidth) {
    const auto first = rows.begin() + static_cast<std::ptrdiff_t>(i) + c * kPart;
    out.insert(out.end(), first, first + kPart);
  }
  return out;
}

// Steps by columns against kernels::RowUpdate of whole rows; latents beyond 20 have no entries.
class ColumnStepTest : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Rules, ColumnStepTest, ::testing::Bool());

TEST_P(ColumnStepTest, EightBlocksAreTheRowStep) {
  const bool unit = GetParam();
  ThreadPool pool(2);
  std::vector<double> w = Values(1, kLatents * kWidth), m(w.size()), v(w.size());
  for (std::int64_t i = 0; i < kLatents; ++i) RenormaliseRow(kWidth, w.data() + i * kWidth);
  std::vector<std::vector<double>> bw, bm, bv;
  for (std::int64_t c = 0; c < kBlocks; ++c) {
    bw.push_back(Cut(w, c));
    bm.emplace_back(bw[0].size());
    bv.emplace_back(bw[0].size());
  }
  std::vector<double> norm2(kLatents, 1.0);
  RowWorkspace<double> rows;
  ColumnWorkspace<double> columns;
  for (int t = 1; t <= 5; ++t) {
    Codes<double> codes;
    codes.tokens = kTokens;
    codes.latents = kLatents;
    codes.indptr = {0};
    Random random(static_cast<std::uint64_t>(50 + t));
    for (std::int64_t b = 0; b < kTokens; ++b) {
      for (std::int32_t i = 0; i < 20; ++i) {
        if (random.Uniform() * t > 0.3) continue;
        codes.ids.push_back(i);
        codes.values.push_back(random.Uniform());
      }
      codes.indptr.push_back(static_cast<std::int64_t>(codes.ids.size()));
    }
    LatentIndex index;
    BuildLatentIndex(codes, &index, pool);
    const std::vector<double> g = Values(static_cast<std::uint64_t>(90 + t), kTokens * kWidth);
    std::vector<double> u(codes.values.size());
    for (std::int64_t b = 0; b < kTokens; ++b) {
      for (auto e = codes.indptr[static_cast<std::size_t>(b)];
           e < codes.indptr[static_cast<std::size_t>(b) + 1]; ++e) {
        u[static_cast<std::size_t>(e)] =
            Dot(kWidth, w.data() + codes.ids[static_cast<std::size_t>(e)] * kWidth,
                g.data() + b * kWidth);
      }
    }
    const std::vector<GradientTerm<double>> terms = {
        {&index, codes.values.data(), nullptr, g.data()}};
    RowGradientInput<double> in;
    in.latents = kLatents;
    in.d_out = kWidth;
    in.terms = terms;
    RowUpdateOptions options;
    options.adam = Adam::At(t, 0.01, 0.9, 0.999, 1e-8);
    options.decoder = unit ? DecoderRule::kUnit : DecoderRule::kFree;
    options.gradient_scale = t == 2 ? 0.25 : 1;
    options.t = t;
    RowParameters<double> p;
    p.w_dec = w.data();
    p.w_dec_m = m.data();
    p.w_dec_v = v.data();
    const double expected = RowUpdate(in, options, p, &rows, pool);

    double squares = 0;
    std::vector<std::vector<double>> parts(kBlocks, std::vector<double>(kLatents));
    for (std::int64_t c = 0; c < kBlocks; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const std::vector<double> gc = Cut(g, c);
      const std::vector<ColumnTerm<double>> own = {
          {&index, codes.values.data(), u.data(), gc.data(), 0, kLatents}};
      ColumnStepOptions<double> o;
      o.adam = options.adam;
      o.unit = unit;
      o.gradient_scale = options.gradient_scale;
      o.norm2 = norm2.data();
      const ColumnBlock<double> block{kLatents, kPart, bw[at].data(), bm[at].data(), bv[at].data()};
      squares += ColumnSquaredNorm<double>(own, o, block, &columns, pool);
      ColumnStep<double>(own, o, block, parts[at].data(), &columns, pool);
    }
    EXPECT_NEAR(squares / expected, 1, 1e-11);
    std::vector<double> factor(kLatents, 1.0);
    for (std::size_t i = 0; i < kLatents; ++i) {
      bool rests = true;
      norm2[i] = 0;
      for (const auto& part : parts) {
        rests = rests && std::signbit(part[i]);
        norm2[i] += std::abs(part[i]);
      }
      EXPECT_EQ(rests, i >= 20) << i;  // no gradient and no momentum, ever
      if (!unit || rests) continue;
      factor[i] = InverseNorm(norm2[i]);
      norm2[i] *= factor[i] * factor[i];
    }
    for (std::int64_t c = 0; c < kBlocks; ++c) {
      const auto at = static_cast<std::size_t>(c);
      RescaleRows<double>({kLatents, kPart, bw[at].data(), bm[at].data(), bv[at].data()},
                          factor.data(), pool);
      const std::vector<double> rw = Cut(w, c), rm = Cut(m, c), rv = Cut(v, c);
      for (std::size_t e = 0; e < rw.size(); ++e) {
        ASSERT_NEAR(bw[at][e], rw[e], 1e-11) << "step " << t;
        ASSERT_NEAR(bm[at][e], rm[e], 1e-11);
        ASSERT_NEAR(bv[at][e], rv[e], 1e-11);
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
