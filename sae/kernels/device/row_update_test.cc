// The plain partner of the row update against kernels::RowUpdate: the same bits with float32
// moments and joined weights.
#include "sae/kernels/device/row_update.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"
#include "sae/kernels/device/deferred_rows.h"
#include "sae/kernels/moment_format.h"
#include "sae/kernels/row_step_reference.h"

namespace sae::kernels {
namespace {

namespace reference = row_step_reference;
using device::RowRule;
using device::RowUpdateParams;
using reference::kIn;
using reference::kLatents;
using reference::kOut;
using testing::At;
using testing::HostCodes;
using testing::SplitWeights;

constexpr std::pair<DecoderRule, RowRule> kRules[] = {
    {DecoderRule::kUnit, RowRule::kUnit},
    {DecoderRule::kUnitBefore, RowRule::kUnitBefore},
    {DecoderRule::kFree, RowRule::kFree},
    {DecoderRule::kOnTheFly, RowRule::kOnTheFly}};

device::AdamScalars Scalars(const Adam& a, std::int64_t t) {
  return {a.lr, a.beta1, a.beta2, a.epsilon, a.correction1, a.correction2, t};
}

/// The reference's batch in the device's layout.
class Terms {
 public:
  explicit Terms(const reference::Batch<float>& batch) {
    for (const auto& part : batch.parts) codes_.push_back(testing::FromCodes(part->codes));
    for (std::size_t i = 0; i < codes_.size(); ++i) {
      const auto& part = *batch.parts[i];
      device::RowTerm term;
      term.index = codes_[i].index();
      term.rows = codes_[i].rows.data();
      term.f = part.has_f ? part.codes.values.data() : nullptr;
      term.delta = part.has_delta ? part.delta.data() : nullptr;
      term.g = part.g.data();
      term.first_latent = static_cast<std::int32_t>(part.first);
      term.last_latent = static_cast<std::int32_t>(part.last);
      terms_.push_back(term);
    }
  }
  void SetIn(RowUpdateParams* p, const reference::Batch<float>& batch) const {
    const RowGradientInput<float> in = batch.input();
    p->latents = kLatents;
    p->d = kIn;
    p->d_out = kOut;
    p->x = in.x;
    p->scale = in.scale;
    p->b_dec = in.b_dec;
    p->delta_sums = in.delta_sums;
    p->norm_gradient = in.norm_gradient;
    p->dense_delta = in.dense_delta;
    p->x_sum = in.x_sum;
    p->terms_count = static_cast<int>(terms_.size());
    std::copy(terms_.begin(), terms_.end(), p->terms);
  }

 private:
  std::vector<HostCodes> codes_;
  std::vector<device::RowTerm> terms_;
};

/// Weights and moments in one format.
struct Store {
  Store(const reference::State<float>& s, device::MomentFormat format)
      : enc(s.w_enc), dec(s.w_dec), row_scale(s.row_scale), format_(format) {
    const std::size_t element = format == device::MomentFormat::kF32    ? 4
                                : format == device::MomentFormat::kBf16 ? 2
                                                                        : 1;
    for (auto* m : {&enc_m, &enc_v}) m->assign(s.w_enc.size() * element, 0);
    for (auto* m : {&dec_m, &dec_v}) m->assign(s.w_dec.size() * element, 0);
    for (auto& scales : scales_) scales.assign(At(kLatents * MomentBlocks(kOut)), 0);
  }
  void SetIn(RowUpdateParams* p) {
    p->w_enc = enc.mutable_view();
    p->w_dec = dec.mutable_view();
    p->enc_moments = {format_, enc_m.data(), enc_v.data(), scales_[0].data(), scales_[1].data()};
    p->dec_moments = {format_, dec_m.data(), dec_v.data(), scales_[2].data(), scales_[3].data()};
    p->row_scale = row_scale.data();
  }
  static std::vector<float> Floats(const std::vector<std::uint8_t>& bytes) {
    std::vector<float> out(bytes.size() / 4);
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return out;
  }
  SplitWeights enc, dec;
  std::vector<float> row_scale;
  std::vector<std::uint8_t> enc_m, enc_v, dec_m, dec_v;

 private:
  device::MomentFormat format_;
  std::vector<float> scales_[4];
};

void ExpectEqual(const Store& store, const reference::State<float>& state) {
  testing::ExpectSame(store.enc.Joined(), state.w_enc, "w_enc");
  testing::ExpectSame(store.dec.Joined(), state.w_dec, "w_dec");
  testing::ExpectSame(Store::Floats(store.enc_m), state.w_enc_m, "enc m");
  testing::ExpectSame(Store::Floats(store.enc_v), state.w_enc_v, "enc v");
  testing::ExpectSame(Store::Floats(store.dec_m), state.w_dec_m, "dec m");
  testing::ExpectSame(Store::Floats(store.dec_v), state.w_dec_v, "dec v");
  testing::ExpectSame(store.row_scale, state.row_scale, "row_scale");
}

TEST(PlainRowUpdate, HasTheBitsOfTheCpuEngineUnderEveryRule) {
  ThreadPool pool(1);
  for (const auto& [rule, row_rule] : kRules) {
    reference::State<float> state(rule);
    Store store(state, device::MomentFormat::kF32);
    RowWorkspace<float> workspace;
    for (std::int64_t t = 1; t <= 7; ++t) {
      // With extras and without, dense and empty: rows that start, go on without gradient, and
      // rest.
      const reference::Batch<float> batch(100 + static_cast<std::uint64_t>(t), t == 4 ? 0 : 0.1,
                                          t % 2 == 0 && t != 4);
      const Terms terms(batch);
      RowUpdateOptions options;
      options.adam = Adam::At(t, 0.01, t < 6 ? 0.9 : 0, 0.99, 1e-8);
      options.decoder = rule;
      options.gradient_scale = t == 3 ? 0.3 : 1;
      options.t = t;
      const device::AdamScalars adam = Scalars(options.adam, t);
      std::vector<double> norms(At(kLatents));
      RowUpdateParams p;
      terms.SetIn(&p, batch);
      store.SetIn(&p);
      p.rule = row_rule;
      p.adam = &adam;
      p.gradient_scale = t == 3 ? &options.gradient_scale : nullptr;
      p.norms = norms.data();
      p.measure_only = true;
      const Store before = store;
      plain::RowUpdate(p);
      EXPECT_EQ(std::accumulate(norms.begin(), norms.end(), 0.0),
                RowGradientSquaredNorm(batch.input(), state.view(), options, &workspace, pool));
      EXPECT_EQ(store.dec.hi, before.dec.hi);
      EXPECT_EQ(store.dec_m, before.dec_m);
      p.measure_only = false;
      plain::RowUpdate(p);
      EXPECT_EQ(std::accumulate(norms.begin(), norms.end(), 0.0),
                RowUpdate(batch.input(), options, state.view(), &workspace, pool));
      ExpectEqual(store, state);
    }
  }
}

// Latents rest for many steps; beside it dense rows in float64.
TEST(PlainRowUpdate, LazyRowsHaveTheBitsOfTheCpuEngine) {
  constexpr std::int64_t kSteps = 12;
  ThreadPool pool(1);
  for (const auto& [rule, row_rule] : {kRules[0], kRules[2]}) {
    reference::State<float> state(rule);
    Store store(state, device::MomentFormat::kF32);
    reference::Reference exact(state);
    std::vector<std::int64_t> last_step(At(kLatents));
    RowWorkspace<float> workspace;
    std::int64_t left_alone = 0;
    for (std::int64_t t = 1; t <= kSteps; ++t) {
      const auto seed = 300 + static_cast<std::uint64_t>(t);
      const reference::Batch<float> batch(seed, 0.004, t % 5 == 0, false);
      const Terms terms(batch);
      RowUpdateOptions options;
      options.adam = Adam::At(t, 0.01, 0, 0.99, 1e-8);
      options.decoder = rule;
      options.t = t;
      options.rows = RowUpdateOptions::Rows::kLazy;
      const device::AdamScalars adam = Scalars(options.adam, t);
      std::vector<double> norms(At(kLatents), -1.0);
      RowUpdateParams p;
      terms.SetIn(&p, batch);
      store.SetIn(&p);
      p.rule = row_rule;
      p.adam = &adam;
      p.norms = norms.data();
      p.last_step = last_step.data();
      plain::RowUpdate(p);
      EXPECT_EQ(std::accumulate(norms.begin(), norms.end(), 0.0),
                RowUpdate(batch.input(), options, state.view(), &workspace, pool));
      ExpectEqual(store, state);
      EXPECT_EQ(last_step, state.last_step) << t;
      left_alone += std::count_if(last_step.begin(), last_step.end(),
                                  [&](std::int64_t last) { return last != t; });
      exact.Step(batch, options);
    }
    EXPECT_GT(left_alone, kSteps * kLatents / 4);
    device::CatchUpRowsParams up;
    RowUpdateParams p;
    store.SetIn(&p);
    up.latents = kLatents;
    up.d = kIn;
    up.d_out = kOut;
    up.enc_moments = p.enc_moments;
    up.dec_moments = p.dec_moments;
    up.last_step = last_step.data();
    up.beta2 = 0.99;
    up.t = kSteps;
    plain::CatchUpRows(up);
    RowUpdateOptions options;
    options.adam = Adam::At(kSteps, 0.01, 0, 0.99, 1e-8);
    options.decoder = rule;
    options.t = kSteps;
    options.rows = RowUpdateOptions::Rows::kLazy;
    CatchUp<float>(nullptr, kLatents, kIn, kOut, options, state.view(), pool);
    ExpectEqual(store, state);
    exact.ExpectNear(state, 1e-4);
  }
}

// As an engine calls them: what a step reads catches up first, and all of it once a window.
class DeferredRows {
 public:
  static constexpr std::int64_t kWindow = 16, kSteps = 40;
  static Adam AdamAt(std::int64_t t) {
    return Adam::At(t, 0.01 / static_cast<double>(1 + t % 3), 0.9, 0.99, 1e-8);
  }
  static RowUpdateOptions OptionsAt(std::int64_t t, DecoderRule rule) {
    RowUpdateOptions options;
    options.adam = AdamAt(t);
    options.decoder = rule;
    options.t = t;
    options.rows = RowUpdateOptions::Rows::kDeferred;
    options.adam_at = AdamAt;
    return options;
  }
  DeferredRows() : last_step(At(kLatents)), steps_(At(kWindow)) {}
  void CatchUp(Store* store, RowRule rule, std::int64_t t, const std::int32_t* indptr) {
    RowUpdateParams p;
    store->SetIn(&p);
    device::CatchUpDecoderParams up;
    up.latents = kLatents;
    up.d = kOut;
    up.rule = rule;
    up.w = p.w_dec;
    up.moments = p.dec_moments;
    up.last_step = last_step.data();
    up.indptr = indptr;
    up.steps = steps_.data();
    up.window = kWindow;
    up.beta1 = 0.9;
    up.beta2 = 0.99;
    up.epsilon = 1e-8;
    up.t = t;
    plain::CatchUpDecoder(up);
  }
  void SetStep(std::int64_t t) {
    const Adam a = AdamAt(t);
    steps_[At((t - 1) % kWindow)] = device::RestStepOf(a.lr, a.correction1, a.correction2);
  }
  std::vector<std::int64_t> last_step;

 private:
  std::vector<device::RestStep> steps_;
};

TEST(PlainRowUpdate, DeferredRowsHaveTheBitsOfTheCpuEngine) {
  ThreadPool pool(1);
  for (const auto& [rule, row_rule] : {kRules[0], kRules[2]}) {
    reference::State<float> state(rule);
    Store store(state, device::MomentFormat::kF32);
    DeferredRows rows;
    RowWorkspace<float> workspace;
    std::int64_t left_alone = 0;
    for (std::int64_t t = 1; t <= DeferredRows::kSteps; ++t) {
      const reference::Batch<float> batch(500 + static_cast<std::uint64_t>(t), 0.004,
                                          rule == DecoderRule::kUnit && t % 5 == 0, false);
      const Terms terms(batch);
      const RowUpdateOptions options = DeferredRows::OptionsAt(t, rule);
      if ((t - 1) % DeferredRows::kWindow == 0) rows.CatchUp(&store, row_rule, t - 1, nullptr);
      const device::AdamScalars adam = Scalars(options.adam, t);
      std::vector<double> norms(At(kLatents), -1.0);
      RowUpdateParams p;
      terms.SetIn(&p, batch);
      store.SetIn(&p);
      p.rule = row_rule;
      p.adam = &adam;
      p.norms = norms.data();
      p.decoder_step = rows.last_step.data();
      for (int term = 0; term < p.terms_count; ++term)
        rows.CatchUp(&store, row_rule, t - 1, p.terms[term].index.indptr);
      rows.SetStep(t);
      plain::RowUpdate(p);
      EXPECT_EQ(std::accumulate(norms.begin(), norms.end(), 0.0),
                RowUpdate(batch.input(), options, state.view(), &workspace, pool));
      testing::ExpectSame(store.enc.Joined(), state.w_enc, "w_enc");
      left_alone += std::count_if(rows.last_step.begin(), rows.last_step.end(),
                                  [&](std::int64_t last) { return last < t - 1; });
    }
    EXPECT_GT(left_alone, DeferredRows::kSteps * kLatents / 4);
    rows.CatchUp(&store, row_rule, DeferredRows::kSteps, nullptr);
    CatchUp<float>(nullptr, kLatents, kIn, kOut,
                   DeferredRows::OptionsAt(DeferredRows::kSteps, rule), state.view(), pool);
    ExpectEqual(store, state);
    EXPECT_EQ(rows.last_step, state.last_step);
  }
}

class OneStep : public ::testing::Test {
 protected:
  OneStep() : state_(DecoderRule::kUnit), batch_(7, 0.2, true), terms_(batch_) {
    terms_.SetIn(&p_, batch_);
    p_.adam = &adam_;
  }
  Store Run(device::MomentFormat format) {
    Store store(state_, format);
    store.SetIn(&p_);
    plain::RowUpdate(p_);
    return store;
  }
  reference::State<float> state_;
  reference::Batch<float> batch_;
  Terms terms_;
  RowUpdateParams p_;
  device::AdamScalars adam_ = Scalars(Adam::At(1, 0.01, 0.9, 0.99, 1e-8), 1);
};

TEST_F(OneStep, FormatsOfMomentsRoundWhatIsStoredAlone) {
  const Store exact = Run(device::MomentFormat::kF32);
  const Store half = Run(device::MomentFormat::kBf16);
  const Store bytes = Run(device::MomentFormat::kInt8);
  testing::ExpectSame(half.dec.Joined(), exact.dec.Joined(), "w_dec");
  testing::ExpectSame(bytes.enc.Joined(), exact.enc.Joined(), "w_enc");
  const std::vector<float> m = Store::Floats(exact.dec_m);
  std::vector<std::uint16_t> codes(m.size());
  std::memcpy(codes.data(), half.dec_m.data(), half.dec_m.size());
  double error = 0;
  for (std::size_t i = 0; i < m.size(); ++i) {
    const auto value = static_cast<double>(m[i]);
    const double off = static_cast<double>(DecodeBf16(codes[i])) - value;
    ASSERT_LE(std::abs(off), 0x1.0p-7 * std::abs(value));
    error += off;
  }
  EXPECT_GT(std::abs(error), 0);  // something was rounded
}

TEST_F(OneStep, GlobalIdsKeyTheRounding) {
  p_.first_global = 5;
  const Store shifted = Run(device::MomentFormat::kBf16);
  std::vector<std::int32_t> ids(At(kLatents));
  std::iota(ids.begin(), ids.end(), 5);
  p_.first_global = 0;
  const Store other = Run(device::MomentFormat::kBf16);
  p_.global_ids = ids.data();
  const Store named = Run(device::MomentFormat::kBf16);
  EXPECT_EQ(named.dec_m, shifted.dec_m);
  EXPECT_EQ(named.enc_v, shifted.enc_v);
  EXPECT_NE(other.dec_m, shifted.dec_m);
}

TEST_F(OneStep, FlagsSwitchOffTermsAndTheStep) {
  const std::int32_t off = 0;
  p_.go = &off;
  const Store nothing = Run(device::MomentFormat::kF32);
  testing::ExpectSame(nothing.enc.Joined(), state_.w_enc, "w_enc");
  p_.go = nullptr;
  p_.terms[1].enabled = &off;
  const Store without = Run(device::MomentFormat::kF32);
  p_.terms[1].last_latent = p_.terms[1].first_latent;
  p_.terms[1].enabled = nullptr;
  const Store empty = Run(device::MomentFormat::kF32);
  testing::ExpectSame(without.dec.Joined(), empty.dec.Joined(), "w_dec");
  EXPECT_EQ(without.enc_m, empty.enc_m);
  EXPECT_NE(without.enc.Joined(), state_.w_enc);
}

}  // namespace
}  // namespace sae::kernels
