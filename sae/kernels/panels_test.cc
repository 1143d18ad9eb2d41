#include "sae/kernels/panels.h"

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/aligned.h"
#include "sae/kernels/filter.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

/// The chain that defines z.
float PlainZ(std::int64_t d, const float* x, const float* w) {
  float sum = 0;
  for (std::int64_t k = 0; k < d; ++k)
    sum = FilterFuses() ? std::fma(x[k], w[k], sum) : sum + x[k] * w[k];
  return sum;
}

// Every tail of rows, columns and the inner dimension; also through a list of rows.
TEST(Panels, EveryValueIsOneChainOfFusedMultiplyAdds) {
  for (const auto& [tokens, latents, d] :
       {std::tuple(1, 1, 1), std::tuple(5, 17, 3), std::tuple(6, 64, 16), std::tuple(7, 65, 31),
        std::tuple(8, 100, 33), std::tuple(9, 127, 48), std::tuple(10, 200, 100),
        std::tuple(11, 128, 576), std::tuple(64, 15, 40)}) {
    const auto x = testing::Normal<float>(1, std::int64_t{tokens} * d);
    const auto w = testing::Normal<float>(2, std::int64_t{latents} * d);
    std::vector<std::int32_t> some;
    for (std::int32_t i = 0; i < latents; i += 1 + i % 3) some.push_back(i);
    for (const bool listed : {false, true}) {
      const std::int64_t count = listed ? static_cast<std::int64_t>(some.size()) : latents;
      AlignedVector<float> panels(static_cast<std::size_t>(PanelFloats(count, d)),
                                  std::numeric_limits<float>::quiet_NaN());
      PackPanels(w.data(), listed ? some.data() : nullptr, count, d, panels.data());
      const std::int64_t ld = (count + kPanel - 1) / kPanel * kPanel + 3;
      std::vector<float> z(static_cast<std::size_t>(tokens * ld), -7.0F);
      MultiplyPanels(x.data(), tokens, d, panels.data(), count, z.data(), ld);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const float* row = z.data() + t * ld;
        for (std::int64_t j = 0; j < count; ++j) {
          const std::int64_t i = listed ? some[static_cast<std::size_t>(j)] : j;
          ASSERT_EQ(row[j], PlainZ(d, x.data() + t * d, w.data() + i * d))
              << t << " " << j << " of " << tokens << " x " << count << " x " << d;
        }
        for (std::int64_t j = count; j < ld - 3; ++j) ASSERT_EQ(row[j], 0.0F);
        for (std::int64_t j = ld - 3; j < ld; ++j) ASSERT_EQ(row[j], -7.0F);
      }
    }
  }
}

TEST(Panels, NanAndInfinityStayInTheirRow) {
  const std::int64_t d = 20;
  std::vector<float> x(6 * d, 1.0F), w(70 * d, 1.0F);
  w[13 * d + 4] = std::numeric_limits<float>::quiet_NaN();
  w[69 * d] = std::numeric_limits<float>::infinity();
  AlignedVector<float> panels(static_cast<std::size_t>(PanelFloats(70, d)));
  PackPanels(w.data(), nullptr, 70, d, panels.data());
  std::vector<float> z(6 * 128);
  MultiplyPanels(x.data(), 6, d, panels.data(), 70, z.data(), 128);
  for (std::size_t t = 0; t < 6; ++t) {
    for (std::size_t j = 0; j < 128; ++j) {
      const float value = z[t * 128 + j];
      if (j == 13) {
        EXPECT_TRUE(std::isnan(value));
      } else if (j == 69) {
        EXPECT_TRUE(std::isinf(value));
      } else {
        EXPECT_EQ(value, j < 70 ? 20.0F : 0.0F);
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
