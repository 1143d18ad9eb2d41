// The float32 engine on the golden inputs: loss and gradients that an independent float64 program
// found, to 1e-4. With beta1 = 0 and moments of zero, Adam's m after one step is the gradient; the
// decoder is free, for the golden gradients are not projected.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/model/golden_runs.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using model::GoldenRun;
using testing::SavedState;

constexpr std::int64_t kTokens = 6;

config::TrialConfig ConfigOf(const GoldenRun& run) {
  const model::ReferenceOptions& o = run.options;
  config::TrialConfig c = testing::TopKConfig(run.p.n, 0, kTokens);
  c.train.beta1 = 0;
  c.sae.aux_k.reset();
  c.sae.pre_bias = o.pre_bias ? "on" : "off";
  c.sae.decoder = o.decoder == model::DecoderMode::kOnTheFly ? "on_the_fly" : "free";
  switch (o.architecture) {
    case model::Architecture::kReluL1:
      c.sae.architecture = "relu_l1";
      break;
    case model::Architecture::kGated:
      c.sae.architecture = "gated";
      break;
    case model::Architecture::kTopK:
      c.sae.architecture = "topk";
      break;
    case model::Architecture::kBatchTopK:
      c.sae.architecture = "batchtopk";
      break;
    case model::Architecture::kMatryoshka:
      c.sae.architecture = "matryoshka";
      break;
    case model::Architecture::kJumpRelu:
      c.sae.architecture = "jumprelu";
      break;
  }
  switch (o.penalty) {
    case model::Penalty::kL1Norm:
      c.sae.penalty = "l1_norm";
      break;
    case model::Penalty::kL0Quadratic:
      c.sae.penalty = "l0_quadratic";
      break;
    case model::Penalty::kTanh:
      c.sae.penalty = "tanh";
      break;
    default:
      break;
  }
  switch (o.loss) {
    case model::LossReduction::kOpenAi:
      c.sae.loss = "openai";
      break;
    case model::LossReduction::kFvu:
      c.sae.loss = "fvu";
      break;
    default:
      c.sae.loss = "sum";
      break;
  }
  if (o.architecture == model::Architecture::kJumpRelu) {
    c.sae.l0_coefficient = o.coefficient;
    c.sae.target_l0 = o.l0_target;
    c.sae.tanh_scale = o.tanh_scale;
    c.sae.pre_act_coefficient = o.pre_act_coefficient;
    c.sae.bandwidth = o.bandwidth;
    c.sae.threshold_parameter = "raw";
  } else if (o.architecture != model::Architecture::kReluL1 &&
             o.architecture != model::Architecture::kGated) {
    c.sae.k = o.k;
    c.sae.aux_k = 0;
    if (!o.prefixes.empty()) c.sae.prefixes = "3,6,10";
  } else {
    c.sae.l1_coefficient = o.coefficient;
  }
  if (!run.p.w_skip.empty()) c.sae.transcoder = c.sae.skip = true;
  return c;
}

/// The same state with float tensors.
SavedState Narrowed(SavedState s) {
  for (auto& [name, bytes] : s.tensors) {
    if (name == "tokens_since_fired") continue;
    const std::vector<double> wide = testing::Doubles(s, name);
    const std::vector<float> narrow(wide.begin(), wide.end());
    const char* p = reinterpret_cast<const char*>(narrow.data());
    bytes.assign(p, p + narrow.size() * sizeof(float));
  }
  return s;
}

double SquaredNorm(const SavedState& s, const std::string& name) {
  const std::vector<char>& bytes = s.tensors.at(name);
  std::vector<float> v(bytes.size() / sizeof(float));
  std::memcpy(v.data(), bytes.data(), bytes.size());
  double sum = 0;
  for (const float x : v) sum += static_cast<double>(x) * static_cast<double>(x);
  return sum;
}

double SquaredNorm(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x * x;
  return sum;
}

// The engine's dead latents are those silent in the batch too, while the golden ones are given, and
// some fire: of that case the part without AuxK.
GoldenRun WithoutAux(GoldenRun run) {
  if (run.options.aux_k == 0) return run;
  run.options.aux_k = 0;
  run.options.dead.clear();
  const auto r = model::ReferenceForwardBackward(run.p, run.x, run.y, run.options);
  run.loss = 2.990069728838693;
  run.w_enc = SquaredNorm(r.gradient.w_enc), run.b_enc = SquaredNorm(r.gradient.b_enc);
  run.w_dec = SquaredNorm(r.gradient.w_dec), run.b_dec = SquaredNorm(r.gradient.b_dec);
  return run;
}

class EngineGolden : public ::testing::TestWithParam<GoldenRun> {};
INSTANTIATE_TEST_SUITE_P(All, EngineGolden, ::testing::ValuesIn(model::GoldenRuns()),
                         [](const auto& test) { return test.param.name; });

TEST_P(EngineGolden, LossAndGradientsInFloat32) {
  const GoldenRun run = WithoutAux(GetParam());
  const config::TrialConfig config = ConfigOf(run);
  std::vector<float> rows;
  for (std::size_t b = 0; b < kTokens; ++b) {
    for (std::size_t j = 0; j < 4; ++j) rows.push_back(static_cast<float>(run.x[4 * b + j]));
    for (std::size_t j = 0; j < 4 && config.sae.transcoder; ++j)
      rows.push_back(static_cast<float>(run.y[4 * b + j]));
  }
  SavedState start = testing::StateOf(run.p, 1, run.options.sample_variance,
                                      std::vector<std::int64_t>(10, 0), 0, false);
  start.doubles["bandwidth"] = run.options.bandwidth;
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  auto engine = CreateEngine<float>(config, 4, 4, *self, pool);
  ASSERT_TRUE(engine.ok()) << engine.status();
  Restore(Narrowed(start), **engine);
  (*engine)->set_dense_density(2);
  ASSERT_TRUE((*engine)->Step(rows).ok());
  EXPECT_NEAR((*engine)->LastMetrics()->at("train.loss") / run.loss, 1, 1e-4);
  SavedState end;
  Save((*engine)->state(), &end);
  int compared = 0;
  for (const auto& [name, want] : {std::pair{"W_enc", run.w_enc},
                                   {"b_enc", run.b_enc},
                                   {"W_dec", run.w_dec},
                                   {"b_dec", run.b_dec},
                                   {"r_mag", run.r_mag},
                                   {"b_mag", run.b_mag},
                                   {"threshold", run.threshold},
                                   {"W_skip", run.w_skip}}) {
    if (want == 0) continue;
    EXPECT_NEAR(SquaredNorm(end, std::string(name) + ".adam_m") / want, 1, 1e-4) << name;
    ++compared;
  }
  EXPECT_GE(compared, 4);
}

}  // namespace
}  // namespace sae::train
