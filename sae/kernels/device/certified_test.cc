// The plain partners of certified top-k: bounds against float64, results against whole rows.
#include "sae/kernels/device/certified.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/certified_test_data.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels {
namespace {

using testing::CertifiedProblem;
using testing::SplitRows;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// A float32 product of the rounded operands in descending order: some other order than any unit's.
float ScreenProduct(const CertifiedProblem& p, const SplitRows& rows, std::int64_t t,
                    std::int64_t i) {
  float sum = 0;
  for (std::int64_t j = p.d - 1; j >= 0; --j) {
    sum += Bf16ToFloat(rows.hi[At(i * p.d + j)]) * Bf16ToFloat(FloatToBf16(p.x[At(t * p.d + j)]));
  }
  return sum;
}

float ReferenceOf(const CertifiedProblem& p, std::int64_t t, std::int64_t i) {
  return ReferenceZ(p.scale, ReferenceDot(p.d, p.w.data() + i * p.d, p.x.data() + t * p.d),
                    p.c[At(i)]);
}

TEST(PlainCertified, MarginsEncloseTheReference) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    const SplitRows rows(p.w);
    std::vector<float> norm(At(p.latents)), residual(norm), margin(norm);
    std::vector<float> of_residual(At(p.tokens)), of_norm(of_residual), extra(of_residual);
    const device::LatentBounds latents = {norm.data(), residual.data(), margin.data()};
    const device::TokenBounds tokens = {of_residual.data(), of_norm.data(), extra.data()};
    plain::BoundLatents({{rows.hi.data(), rows.lo.data()}, p.c.data(), p.latents, p.d, latents});
    plain::BoundTokens({p.x.data(), p.tokens, p.d, p.scale, tokens});
    std::int64_t screened = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      for (std::int64_t i = 0; i < p.latents; ++i) {
        const double m = static_cast<double>(of_residual[At(t)]) * residual[At(i)] +
                         static_cast<double>(of_norm[At(t)]) * norm[At(i)] + margin[At(i)] +
                         extra[At(t)];
        if (!(m < HUGE_VAL)) continue;
        ++screened;
        const float z = std::fma(p.scale, ScreenProduct(p, rows, t, i), p.c[At(i)]);
        ASSERT_LE(std::abs(static_cast<double>(z) - static_cast<double>(ReferenceOf(p, t, i))), m)
            << p.name << " " << t << " " << i;
      }
    }
    EXPECT_GE(2 * screened, p.tokens * p.latents) << p.name;
  }
}

TEST(PlainCertified, MarginsOfUsualRowsAreNarrow) {
  const CertifiedProblem p = testing::RandomProblem("usual", 4, 50, 256, 8);
  const SplitRows rows(p.w);
  std::vector<float> norm(50), residual(50), margin(50), of_residual(4), of_norm(4), extra(4);
  plain::BoundLatents({{rows.hi.data(), rows.lo.data()},
                       p.c.data(),
                       50,
                       256,
                       {norm.data(), residual.data(), margin.data()}});
  plain::BoundTokens(
      {p.x.data(), 4, 256, 1.0F, {of_residual.data(), of_norm.data(), extra.data()}});
  for (std::size_t i = 0; i < 50; ++i) {
    const double norm_x = 16;  // about |x|
    EXPECT_LT(of_residual[0] * residual[i] + of_norm[0] * norm[i] + margin[i] + extra[0],
              norm_x * norm[i] * 0x1p-7);
  }
}

TEST(PlainCertified, RescoredListsGiveTheWholeRowsTopK) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    const SplitRows rows(p.w);
    std::vector<float> norm(At(p.latents)), residual(norm), margin(norm);
    std::vector<float> of_residual(At(p.tokens)), of_norm(of_residual), extra(of_residual);
    const device::LatentBounds latents = {norm.data(), residual.data(), margin.data()};
    const device::TokenBounds tokens = {of_residual.data(), of_norm.data(), extra.data()};
    plain::BoundLatents({{rows.hi.data(), rows.lo.data()}, p.c.data(), p.latents, p.d, latents});
    plain::BoundTokens({p.x.data(), p.tokens, p.d, p.scale, tokens});
    std::vector<float> products;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      for (std::int64_t i = 0; i < p.latents; ++i) products.push_back(ScreenProduct(p, rows, t, i));
    }
    const std::int64_t limit = 2 * p.k + 16;
    std::vector<float> upper(At(p.tokens * limit)), lower(upper);
    std::vector<std::int32_t> ids(At(p.tokens * limit)), counts(At(p.tokens), 0);
    std::vector<std::uint32_t> floors(At(p.tokens), 0);
    const device::CandidateLists lists = {upper.data(),  lower.data(),  ids.data(),
                                          counts.data(), floors.data(), limit};
    std::int32_t finite = 1;
    for (std::int64_t first = 0; first < p.latents; first += 100) {
      device::ScreenChunkParams s;
      s.chunk.products = products.data() + first;
      s.chunk.ld = p.latents;
      s.chunk.tokens = p.tokens;
      s.chunk.columns = std::min<std::int64_t>(100, p.latents - first);
      s.chunk.c = p.c.data() + first;
      s.chunk.scale = p.scale;
      s.chunk.first_id = static_cast<std::int32_t>(first);
      s.k = p.k;
      s.latents = latents;
      s.tokens = tokens;
      s.lists = lists;
      plain::ScreenChunk(s);
    }
    std::vector<float> values(At(p.tokens * p.k));
    std::vector<std::int32_t> top(At(p.tokens * p.k)), top_counts(At(p.tokens));
    device::CertifiedStats stats = {};
    plain::Rescore({{rows.hi.data(), rows.lo.data()},
                    p.c.data(),
                    p.latents,
                    p.d,
                    p.x.data(),
                    p.tokens,
                    p.scale,
                    lists,
                    p.k,
                    values.data(),
                    top.data(),
                    top_counts.data(),
                    &finite,
                    &stats});
    EXPECT_EQ(finite, p.name.starts_with("NaN") ? 0 : 1) << p.name;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      std::vector<std::pair<float, std::int64_t>> all;  // negated: least first
      for (std::int64_t i = 0; i < p.latents; ++i) {
        const float z = ReferenceOf(p, t, i);
        if (z > -HUGE_VALF) all.emplace_back(-z, i);
      }
      std::sort(all.begin(), all.end());
      ASSERT_EQ(top_counts[At(t)], std::min(p.k, std::ssize(all))) << p.name;
      for (std::int64_t i = 0; i < top_counts[At(t)]; ++i) {
        ASSERT_EQ(values[At(t * p.k + i)], -all[At(i)].first) << p.name;
        ASSERT_EQ(top[At(t * p.k + i)], all[At(i)].second) << p.name;
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
