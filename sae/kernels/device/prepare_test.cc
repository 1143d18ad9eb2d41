// The plain partners of preparation against float64 and against the CPU engine's own.
#include "sae/kernels/device/prepare.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/prepare_test_data.h"

namespace sae::kernels {
namespace {

TEST(PlainPrepare, FoldBiasIsTheFloat64SumRoundedOnce) {
  for (const std::int64_t d : {1, 31, 33, 100}) {
    const testing::SplitRows w(7, d);
    const std::vector<float> b_enc = testing::Normal<float>(2, 7);
    const std::vector<float> b_dec = testing::Normal<float>(3, d);
    for (const bool joined : {true, false}) {
      for (const bool shifted : {true, false}) {
        std::vector<float> c(7);
        plain::FoldBias({{w.hi.data(), joined ? w.lo.data() : nullptr},
                         shifted ? nullptr : b_enc.data(),
                         shifted ? b_dec.data() : nullptr,
                         c.data(),
                         7,
                         d});
        for (std::size_t i = 0; i < 7; ++i) {
          double expected = shifted ? 0 : static_cast<double>(b_enc[i]);
          for (std::size_t j = 0; shifted && j < b_dec.size(); ++j) {
            const std::size_t at = i * b_dec.size() + j;
            const float weight = joined ? w.exact[at] : Bf16ToFloat(w.hi[at]);
            expected -= static_cast<double>(weight) * static_cast<double>(b_dec[j]);
          }
          EXPECT_NEAR(c[i], expected, 1e-7 * (std::abs(expected) + 1e-6));
        }
      }
    }
  }
}

TEST(PlainPrepare, ToBf16RoundsToNearestEven) {
  const std::vector<float> x = {1.0F, 1.00390625F, 1.01171875F, -0.0F, 3.4e38F};
  std::vector<std::uint16_t> out(x.size());
  plain::ToBf16({x.data(), out.data(), static_cast<std::int64_t>(x.size())});
  EXPECT_EQ(out, (std::vector<std::uint16_t>{0x3f80, 0x3f80, 0x3f82, 0x8000, 0x7f80}));
}

TEST(PlainPrepare, GatherTakesConsecutiveOrNamedRows) {
  const std::int64_t d = 5;
  const testing::SplitRows w(9, d);
  const std::vector<float> c = testing::Normal<float>(4, 9);
  const std::vector<std::int32_t> ids = {0, 2, 3, 8, 1000000};
  const std::int32_t id_count = 4;
  for (const bool named : {false, true}) {
    std::vector<float> joined(4 * 5, 9.0F);
    std::vector<std::uint16_t> hi(4 * 5, 9);
    std::vector<float> c_out(4, 9.0F);
    device::GatherRowsParams p;
    p.w = {w.hi.data(), w.lo.data()};
    p.c = c.data();
    p.ids = named ? ids.data() : nullptr;
    p.id_count = named ? &id_count : nullptr;
    p.first = 1;
    p.rows = 4;
    p.d = d;
    p.joined = joined.data();
    p.hi = hi.data();
    p.c_out = c_out.data();
    plain::GatherRows(p);
    for (std::size_t r = 0; r < 4; ++r) {
      const bool there = !named || r < 3;
      const std::size_t from = named ? static_cast<std::size_t>(ids[r + 1]) : r + 1;
      EXPECT_EQ(c_out[r], there ? c[from] : -std::numeric_limits<float>::infinity());
      for (std::size_t j = 0; j < 5; ++j) {
        EXPECT_EQ(joined[r * 5 + j], there ? w.exact[from * 5 + j] : 0.0F);
        EXPECT_EQ(hi[r * 5 + j], there ? w.hi[from * 5 + j] : 0);
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
