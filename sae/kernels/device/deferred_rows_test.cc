// The plain partner against kernels::CatchUp of deferred rows, bit for bit.
#include "sae/kernels/device/deferred_rows.h"

#include <gtest/gtest.h>

#include "sae/kernels/device/deferred_rows_test_data.h"
#include "sae/kernels/row_step.h"

namespace sae::kernels {
namespace {

using testing::DeferredCase;
using testing::DeferredData;

TEST(DeferredRows, PartnerHasTheBitsOfTheCpuEngine) {
  ThreadPool pool(1);
  for (const device::RowRule rule : {device::RowRule::kUnit, device::RowRule::kFree}) {
    for (const double beta1 : {0.9, 0.2, 0.0}) {
      DeferredCase shape;
      shape.d = 37;
      shape.rule = rule;
      shape.beta1 = beta1;
      DeferredData plain(shape), cpu(shape);
      plain.RunPlain();
      std::vector<float> w = cpu.w.Joined();
      RowParameters<float> p;
      p.w_dec = w.data();
      p.w_dec_m = cpu.m.data();
      p.w_dec_v = cpu.v.data();
      p.last_step = cpu.last_step.data();
      RowUpdateOptions options;
      options.rows = RowUpdateOptions::Rows::kDeferred;
      options.decoder = rule == device::RowRule::kUnit ? DecoderRule::kUnit : DecoderRule::kFree;
      options.t = shape.t;
      options.adam_at = [&](std::int64_t t) { return DeferredData::AdamAt(t, beta1); };
      options.adam = options.adam_at(shape.t);
      CatchUp<float>(nullptr, shape.latents, shape.d, shape.d, options, p, pool);
      testing::ExpectSame(plain.w.Joined(), w, "w");
      testing::ExpectSame(plain.m, cpu.m, "m");
      testing::ExpectSame(plain.v, cpu.v, "v");
      EXPECT_EQ(plain.last_step, cpu.last_step);
    }
  }
}

TEST(DeferredRows, PartnerTakesRowsWithEntriesAlone) {
  DeferredCase shape;
  shape.d = 5;
  shape.indexed = true;
  const DeferredData before(shape);
  DeferredData after(shape);
  after.RunPlain();
  int kept = 0, moved = 0;
  for (std::size_t i = 0; i < before.last_step.size(); ++i) {
    const bool has = before.indptr[i] < before.indptr[i + 1];
    EXPECT_EQ(after.last_step[i], has ? shape.t - 1 : before.last_step[i]);
    ++(after.v[5 * i] == before.v[5 * i] ? kept : moved);
  }
  EXPECT_GT(kept, 3);
  EXPECT_GT(moved, 3);
}

}  // namespace
}  // namespace sae::kernels
