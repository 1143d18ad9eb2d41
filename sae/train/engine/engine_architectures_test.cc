// The float64 engine of every architecture and option, at 1, 2 and 4 ranks and under both
// reductions, with moments in every format, against the plain dense formulas: losses, parameters and
// moments over several steps.
#include <cmath>
#include <functional>

#include "gtest/gtest.h"

#include "sae/base/mutex.h"
#include "sae/train/engine/engine_testing_moments.h"

namespace sae::train {
namespace {

using testing::SavedState;

constexpr std::int64_t kLatents = 32;
constexpr std::int64_t kWidth = 7;
constexpr std::int64_t kBatch = 19;
constexpr double kScale = 3.5;
constexpr double kVariance = 0.8;
constexpr double kBandwidth = 0.3;
constexpr int kSteps = 4;
constexpr int kAnnealed = 5;  // of the ten updates of lp's exponent
constexpr double kLr = 1e-3;

struct Variant {
  const char* name;
  std::function<void(config::TrialConfig&)> set;
  std::int64_t d_out = kWidth;
};

std::ostream& operator<<(std::ostream& out, const Variant& v) { return out << v.name; }

std::vector<Variant> Variants() {
  const auto named = [](const char* architecture, auto more) {
    return [=](config::TrialConfig& c) {
      c.sae.architecture = architecture;
      c.sae.k = 0;
      more(c);
    };
  };
  const auto ranked = [&](const char* architecture, auto more) {
    return named(architecture, [=](config::TrialConfig& c) {
      c.sae.k = 5;
      more(c);
    });
  };
  const auto jump = [&](auto more) {
    return named("jumprelu", [=](config::TrialConfig& c) {
      c.sae.l0_coefficient = 0.05;
      c.train.beta1 = 0.9;
      c.sae.threshold_lr = 0.02;
      more(c);
    });
  };
  const auto none = [](config::TrialConfig&) {};
  return {
      {"relu_l1", named("relu_l1", [](auto& c) { c.sae.l1_coefficient = 0.05; })},
      {"relu_l1_without_pre_bias", named("relu_l1", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.pre_bias = "off";
       })},
      {"relu_l1_norm", named("relu_l1", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.penalty = "l1_norm";
       })},
      {"relu_lp", named("relu_l1", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.penalty = "lp";
       })},
      {"relu_on_the_fly", named("relu_l1", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.decoder = "on_the_fly";
       })},
      {"relu_unit_before_clipped", named("relu_l1", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.decoder = "unit_before";
         c.train.clip = 0.1;
       })},
      {"topk", ranked("topk", none)},
      {"topk_aux", ranked("topk", [](auto& c) { c.sae.aux_k = 3; })},
      {"topk_multi", ranked("topk", [](auto& c) { c.sae.multi_topk = true; })},
      {"topk_openai", ranked("topk", [](auto& c) {
         c.sae.aux_k = 3;
         c.train.preset = "openai";
         c.train.clip = 0.2;
         c.train.ema = 0.9;
       })},
      {"topk_mean", ranked("topk", [](auto& c) {
         c.sae.aux_k = 3;
         c.sae.loss = "mean";
       })},
      {"topk_fvu", ranked("topk", [](auto& c) {
         c.sae.aux_k = 3;
         c.sae.loss = "fvu";
       })},
      {"topk_free", ranked("topk", [](auto& c) { c.sae.decoder = "free"; })},
      {"batchtopk", ranked("batchtopk", none)},
      {"batchtopk_aux", ranked("batchtopk", [](auto& c) { c.sae.aux_k = 3; })},
      {"matryoshka", ranked("matryoshka", none)},
      {"matryoshka_bias", ranked("matryoshka", [](auto& c) {
         c.sae.prefixes = "3,10";
         c.sae.prefix_weights = "mean_with_bias";
         c.sae.aux_k = 3;
       })},
      {"matryoshka_sum", ranked("matryoshka", [](auto& c) { c.sae.prefix_weights = "sum"; })},
      {"gated", named("gated", [](auto& c) { c.sae.l1_coefficient = 0.05; })},
      {"jumprelu", jump(none)},
      {"jumprelu_raw", jump([](auto& c) { c.sae.threshold_parameter = "raw"; })},
      {"jumprelu_quadratic", jump([](auto& c) {
         c.sae.penalty = "l0_quadratic";
         c.sae.target_l0 = 6;
       })},
      {"jumprelu_tanh", jump([](auto& c) {
         c.sae.penalty = "tanh";
         c.sae.pre_act_coefficient = 0.03;
       })},
      {"jumprelu_tanh_unit", jump([](auto& c) {
         c.sae.penalty = "tanh";
         c.sae.pre_act_coefficient = 0.03;
         c.sae.decoder = "unit";
         c.sae.pre_bias = "on";
       })},
      {"jumprelu_frequency", jump([](auto& c) { c.sae.frequency_coefficient = 0.02; })},
      {"transcoder_topk", ranked("topk", [](auto& c) { c.sae.transcoder = true; }), 5},
      {"skip_transcoder_jumprelu", jump([](auto& c) {
         c.sae.transcoder = true;
         c.sae.skip = true;
       }), 5},
      {"skip_transcoder_topk_multi_clipped", ranked("topk", [](auto& c) {
         c.sae.transcoder = true;
         c.sae.skip = true;
         c.sae.multi_topk = true;
         c.train.clip = 0.1;
       }), 9},
      {"skip_transcoder_gated_clipped", named("gated", [](auto& c) {
         c.sae.l1_coefficient = 0.05;
         c.sae.transcoder = true;
         c.sae.skip = true;
         c.train.clip = 0.1;
       }), 9},
  };
}

struct Case {
  config::TrialConfig config;
  model::Options options;
  model::ReferenceParameters p;
  std::vector<std::int64_t> since;
  std::vector<float> rows;
  std::vector<double> x, y;  // scaled
};

Case MakeCase(const Variant& variant, int ranks, bool fixed, const char* moments) {
  Case c;
  c.config = testing::TopKConfig(kLatents, 0, kBatch, ranks);
  c.config.train.lr_decay_fraction = 0;
  c.config.train.lr = kLr;
  c.config.train.beta1 = 0.9;
  if (fixed) c.config.train.reduction = "fixed";
  c.config.train.moments = moments;
  variant.set(c.config);
  c.config.sae.dead_after_tokens = 1000;
  c.config = config::Resolve(c.config, kWidth);
  c.options = model::OptionsOf(c.config);
  Random random(21);
  const auto draw = [&](std::int64_t count, double scale) {
    std::vector<double> out(static_cast<std::size_t>(count));
    for (double& v : out) v = scale * random.Normal();
    return out;
  };
  c.p.n = kLatents;
  c.p.d = kWidth;
  c.p.d_out = variant.d_out;
  c.p.w_enc = draw(kLatents * kWidth, 0.4);
  c.p.b_enc = draw(kLatents, 0.1);
  c.p.w_dec = draw(kLatents * variant.d_out, 0.5);
  c.p.b_dec = draw(variant.d_out, 0.2);
  if (c.options.decoder == model::DecoderMode::kUnit ||
      c.options.decoder == model::DecoderMode::kUnitBefore) {
    for (std::int64_t i = 0; i < kLatents; ++i) {
      const auto row = std::span(c.p.w_dec).subspan(static_cast<std::size_t>(i * variant.d_out),
                                                    static_cast<std::size_t>(variant.d_out));
      double squares = 0;
      for (const double v : row) squares += v * v;
      for (double& v : row) v /= std::sqrt(squares);
    }
  }
  if (c.options.architecture == model::Architecture::kGated) {
    c.p.b_mag = draw(kLatents, 0.1);
    c.p.r_mag = draw(kLatents, 0.2);
  }
  if (c.options.architecture == model::Architecture::kJumpRelu) {
    for (const double v : draw(kLatents, 0.1)) c.p.threshold.push_back(0.2 + std::abs(v));
  }
  if (c.options.skip) c.p.w_skip = draw(variant.d_out * kWidth, 0.2);
  c.since.assign(kLatents, 0);
  for (const std::size_t i : {0, 1, 2, 5, 13, 14, 23}) {
    if (c.config.sae.aux_k.value_or(0) == 0) break;
    c.since[i] = 5000;
    c.p.b_enc[i] = -0.35;
  }
  const std::int64_t targets = c.options.transcoder ? variant.d_out : 0;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    for (std::int64_t j = 0; j < kWidth + targets; ++j) {
      c.rows.push_back(static_cast<float>(random.Normal()));
      (j < kWidth ? c.x : c.y).push_back(c.rows.back() / kScale);
    }
  }
  if (targets == 0) c.y = c.x;
  return c;
}

model::ReferenceOptions OptionsFor(const Case& c) {
  model::ReferenceOptions o;
  o.architecture = c.options.architecture;
  o.penalty = c.options.penalty;
  o.decoder = c.options.decoder;
  o.pre_bias = c.options.pre_bias;
  o.loss = c.options.loss;
  o.sample_variance = kVariance;
  const config::SaeConfig& sae = c.config.sae;
  o.coefficient = sae.architecture == "jumprelu" ? sae.l0_coefficient : sae.l1_coefficient;
  o.p = c.options.penalty == model::Penalty::kLp ? 1 + (sae.p_end - 1) * kAnnealed / 10.0 : 1;
  o.l0_target = sae.target_l0;
  o.tanh_scale = sae.tanh_scale;
  o.pre_act_coefficient = sae.pre_act_coefficient;
  o.frequency_coefficient = sae.frequency_coefficient;
  o.bandwidth = kBandwidth;
  o.k = sae.k;
  o.multi_topk = sae.multi_topk;
  o.aux_k = c.options.ranked() ? sae.aux_k.value_or(0) : 0;
  o.aux_scale = model::ReferenceAuxScale(sae.aux_alpha, c.options.loss, kBatch, c.p.out(),
                                         kVariance);
  if (c.options.architecture == model::Architecture::kMatryoshka) {
    o.prefixes = c.options.prefixes;
    o.prefix_weights = c.options.prefix_weights;
    o.bias_weight = c.options.bias_weight;
  }
  return o;
}

// The reference's steps; losses on the way.
model::ReferenceState Walk(const Case& c, std::vector<double>* losses) {
  model::ReferenceState s = model::ReferenceStart(c.p);
  model::ReferenceOptions o = OptionsFor(c);
  std::vector<bool> dead(kLatents, false);
  for (std::size_t i = 0; i < kLatents; ++i) dead[i] = c.since[i] >= 1000;
  model::ReferenceUpdateOptions u;
  const config::TrainConfig& t = c.config.train;
  u.adam = {kLr, *t.beta1, t.beta2, *t.epsilon};
  u.decoder = c.options.decoder;
  u.clip = t.clip;
  u.ema = t.ema;
  u.threshold = c.options.threshold;
  u.threshold_lr = c.config.sae.threshold_lr.value_or(0);
  for (int step = 0; step < kSteps; ++step) {
    // Latents that win in this batch come alive before AuxK chooses.
    o.dead.assign(kLatents, false);
    const auto main = model::ReferenceForwardBackward(s.p, c.x, c.y, o);
    for (std::size_t e = 0; e < main.codes.size(); ++e) {
      if (main.codes[e] > 0) dead[e % kLatents] = false;
    }
    o.dead = dead;
    const auto r = model::ReferenceForwardBackward(s.p, c.x, c.y, o);
    losses->push_back(r.loss);
    model::ReferenceUpdate(s, r.gradient, u);
    testing::RoundMoments(c.config, step + 1, &s.m, &s.v);
  }
  return s;
}

struct Outcome {
  SavedState state;
  std::vector<double> losses;
};

Outcome RunSteps(const Case& c, std::int64_t d_out) {
  Outcome out;
  Mutex mutex;
  SavedState start = testing::StateOf(c.p, kScale, kVariance, c.since, 0,
                                      c.options.threshold == model::ThresholdParameter::kLog);
  start.doubles["bandwidth"] = kBandwidth;
  testing::AddScales(kLatents, kWidth, d_out, &start);
  start.integers["p_anneal_step"] = 500;  // the next update is due at 600 of 1000
  start.integers["p_anneal_updates"] = kAnnealed;
  start.doubles["p_anneal_factor"] = 1;
  start.tensors["p_anneal_queue"] = testing::Bytes(std::vector<double>(20, 0.0));
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(c.config.ranks), [&](comm::Communicator& communicator) {
        ThreadPool pool(2);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(c.config, kWidth, d_out,
                                                               communicator, pool));
        Restore(start, *engine);
        engine->set_dense_density(2);
        for (int s = 0; s < kSteps; ++s) {
          SAE_RETURN_IF_ERROR(engine->Step(c.rows));
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          MutexLock lock(mutex);
          if (communicator.rank() == 0) out.losses.push_back(metrics.at("train.loss"));
        }
        MutexLock lock(mutex);
        Save(engine->state(), &out.state);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  testing::ReadMoments(c.config.train.moments, kLatents, &out.state);
  return out;
}

void ExpectNear(const SavedState& state, const std::string& name, const std::vector<double>& want,
                double tolerance) {
  if (want.empty()) return;
  ASSERT_TRUE(state.tensors.contains(name)) << name;
  const std::vector<double> have = testing::Doubles(state, name);
  ASSERT_EQ(have.size(), want.size()) << name;
  for (std::size_t i = 0; i < have.size(); ++i)
    ASSERT_NEAR(have[i], want[i], tolerance) << name << " " << i;
}

void ExpectParameters(const SavedState& state, const model::ReferenceParameters& p,
                      double tolerance, const std::string& suffix) {
  ExpectNear(state, "W_enc" + suffix, p.w_enc, tolerance);
  ExpectNear(state, "W_dec" + suffix, p.w_dec, tolerance);
  ExpectNear(state, "b_enc" + suffix, p.b_enc, tolerance);
  ExpectNear(state, "b_dec" + suffix, p.b_dec, tolerance);
  ExpectNear(state, "b_mag" + suffix, p.b_mag, tolerance);
  ExpectNear(state, "r_mag" + suffix, p.r_mag, tolerance);
  ExpectNear(state, "W_skip" + suffix, p.w_skip, tolerance);
}

using Parameter = std::tuple<Variant, int, bool, const char*>;
class EngineArchitectures : public ::testing::TestWithParam<Parameter> {};

// Property 12: latent shards give the single device's step, for every architecture.
TEST_P(EngineArchitectures, StepsMatchTheReference) {
  const auto& [variant, ranks, fixed, moments] = GetParam();
  const Case c = MakeCase(variant, ranks, fixed, moments);
  std::vector<double> losses;
  const model::ReferenceState want = Walk(c, &losses);
  const Outcome out = RunSteps(c, c.p.out());
  ASSERT_EQ(out.losses.size(), losses.size());
  for (std::size_t t = 0; t < losses.size(); ++t) EXPECT_NEAR(out.losses[t], losses[t], 1e-11) << t;
  ExpectParameters(out.state, want.p, 1e-10, "");
  ExpectParameters(out.state, want.m, 1e-11, ".adam_m");
  ExpectParameters(out.state, want.v, 1e-11, ".adam_v");
  if (c.config.train.ema > 0) ExpectParameters(out.state, want.ema, 1e-10, ".ema");
  std::vector<double> theta = want.p.threshold;
  const bool log = c.options.threshold == model::ThresholdParameter::kLog;
  if (log) {
    for (double& v : theta) v = std::log(v);
  }
  ExpectNear(out.state, log ? "log_threshold" : "threshold", theta, 1e-10);
}

std::string NameOf(const ::testing::TestParamInfo<Parameter>& test) {
  return absl::StrCat(std::get<0>(test.param).name, "_", std::get<1>(test.param),
                      std::get<2>(test.param) ? "_fixed_" : "_fast_", std::get<3>(test.param));
}

INSTANTIATE_TEST_SUITE_P(All, EngineArchitectures,
                         ::testing::Combine(::testing::ValuesIn(Variants()),
                                            ::testing::Values(1, 2, 4), ::testing::Bool(),
                                            ::testing::Values("f32")),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Moments, EngineArchitectures,
                         ::testing::Combine(::testing::ValuesIn(Variants()),
                                            ::testing::Values(1, 4), ::testing::Values(true),
                                            ::testing::Values("bf16", "int8")),
                         NameOf);

}  // namespace
}  // namespace sae::train
