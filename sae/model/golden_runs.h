#pragma once
// The eleven golden cases: the inputs of golden.h with each case's options, and the loss and
// squared norms of gradients that an independent float64 program found. For tests. Settings: lambda
// 0.3, eps 0.3, k 3, k_aux 2, dead {1, 4, 7, 8}, alpha 1/32, prefixes {3, 6, 10}.

#include <ostream>
#include <string>
#include <vector>

#include "sae/model/golden.h"
#include "sae/model/reference.h"

namespace sae::model {

struct GoldenRun {
  std::string name;
  ReferenceParameters p;
  std::vector<double> x;
  std::vector<double> y;
  ReferenceOptions options;
  double loss = 0;
  /// Squared norms of the gradient; 0: not given.
  double w_enc = 0, b_enc = 0, w_dec = 0, b_dec = 0;
  double r_mag = 0, b_mag = 0, threshold = 0, w_skip = 0;
};

/// Test names show the case, not its bytes.
inline void PrintTo(const GoldenRun& run, std::ostream* out) { *out << run.name; }

/// Sum over the width of the variance of `rows` [B, width].
inline double SampleVariance(const std::vector<double>& rows, std::size_t width) {
  const double count = static_cast<double>(rows.size() / width);
  double variance = 0;
  for (std::size_t j = 0; j < width; ++j) {
    double mean = 0;
    for (std::size_t i = j; i < rows.size(); i += width) mean += rows[i] / count;
    for (std::size_t i = j; i < rows.size(); i += width)
      variance += (rows[i] - mean) * (rows[i] - mean) / count;
  }
  return variance;
}

inline GoldenRun StartGoldenRun(const std::string& name, Architecture architecture) {
  const GoldenCase g = MakeGoldenCase();
  GoldenRun run{name, g.p, g.x, g.x, {}};
  run.options.architecture = architecture;
  run.options.coefficient = 0.3;
  run.options.k = 3;
  return run;
}

inline GoldenRun GoldenRelu() {
  GoldenRun run = StartGoldenRun("relu_l1", Architecture::kReluL1);
  run.loss = 4.04832469775;
  run.w_enc = 11.57525485, run.b_enc = 9.889106985;
  run.w_dec = 11.50245322, run.b_dec = 30.47794913;
  return run;
}

inline GoldenRun GoldenApril() {
  GoldenRun run = StartGoldenRun("relu_l1_norm", Architecture::kReluL1);
  run.p.w_dec = MakeGoldenCase().raw_w_dec;
  run.options.penalty = Penalty::kL1Norm;
  run.options.decoder = DecoderMode::kFree;
  run.options.pre_bias = false;
  run.loss = 3.63061627591;
  run.w_enc = 9.666280429, run.b_enc = 7.734760766;
  run.w_dec = 10.25124944, run.b_dec = 4.361139189;
  return run;
}

inline GoldenRun GoldenGated() {
  GoldenRun run = StartGoldenRun("gated", Architecture::kGated);
  run.loss = 7.36947119553;
  run.w_enc = 42.55996024, run.b_enc = 9.889106985;
  run.w_dec = 10.66450766, run.b_dec = 120.0808631;
  run.r_mag = 6.75000225, run.b_mag = 7.496194555;
  return run;
}

/// OpenAI's loss: main 2.990069728838693, aux 0.1380912542386196.
inline GoldenRun GoldenOpenAi() {
  GoldenRun run = StartGoldenRun("topk_openai", Architecture::kTopK);
  run.options.loss = LossReduction::kOpenAi;
  run.options.sample_variance = SampleVariance(run.x, 4);
  run.options.aux_k = 2;
  run.options.dead.assign(10, false);
  for (const std::size_t i : {1, 4, 7, 8}) run.options.dead[i] = true;
  run.options.aux_scale =
      ReferenceAuxScale(1.0 / 32, LossReduction::kOpenAi, 6, 4, run.options.sample_variance);
  run.loss = 3.12816098308;
  run.w_enc = 6.415677266, run.b_enc = 5.476266505;
  run.w_dec = 8.915852625, run.b_dec = 16.90500814;
  return run;
}

/// The least kept value is 0.22173833907559604.
inline GoldenRun GoldenBatchTopK() {
  GoldenRun run = StartGoldenRun("batchtopk", Architecture::kBatchTopK);
  run.loss = 3.4428564423;
  run.w_enc = 9.452625219, run.b_enc = 7.11342224;
  run.w_dec = 11.25184831, run.b_dec = 24.81055577;
  return run;
}

inline GoldenRun GoldenMatryoshka() {
  GoldenRun run = StartGoldenRun("matryoshka", Architecture::kMatryoshka);
  run.options.prefixes = {3, 6, 10};
  run.options.prefix_weights.assign(3, 1.0 / 3);
  run.loss = 2.69444079139;
  run.w_enc = 4.284129117, run.b_enc = 3.587509528;
  run.w_dec = 3.925952818, run.b_dec = 13.83345275;
  return run;
}

/// L0 is 2.5.
inline GoldenRun GoldenJumpRelu() {
  GoldenRun run = StartGoldenRun("jumprelu_l0", Architecture::kJumpRelu);
  run.options.penalty = Penalty::kL0;
  run.options.bandwidth = 0.3;
  run.loss = 4.10449541877;
  run.w_enc = 8.657233732, run.b_enc = 6.72642858;
  run.w_dec = 10.83693191, run.b_dec = 26.09642963;
  run.threshold = 3.029775943;
  return run;
}

inline GoldenRun GoldenJumpReluQuadratic() {
  GoldenRun run = GoldenJumpRelu();
  run.name = "jumprelu_l0_quadratic";
  run.options.penalty = Penalty::kL0Quadratic;
  run.options.l0_target = 2;
  run.loss = 3.37324541877;
  run.threshold = 1.512968413;
  return run;
}

inline GoldenRun GoldenJumpReluTanh() {
  GoldenRun run = StartGoldenRun("jumprelu_tanh", Architecture::kJumpRelu);
  run.p.w_dec = MakeGoldenCase().raw_w_dec;
  run.options.penalty = Penalty::kTanh;
  run.options.decoder = DecoderMode::kFree;
  run.options.bandwidth = 0.3;
  run.options.tanh_scale = 4;
  run.options.pre_act_coefficient = 0.05;
  run.loss = 4.16161505169;
  run.w_enc = 8.693696029, run.b_enc = 6.649192096;
  run.w_dec = 10.95232855, run.b_dec = 26.90533259;
  run.threshold = 1.890096949;
  return run;
}

inline GoldenRun GoldenSkipTranscoder() {
  GoldenRun run = StartGoldenRun("skip_transcoder_fvu", Architecture::kTopK);
  run.y = MakeGoldenCase().y;
  run.p.w_skip = MakeGoldenCase().w_skip;
  run.options.loss = LossReduction::kFvu;
  run.options.pre_bias = false;
  run.loss = 2.74999445541;
  run.w_enc = 2.732383881, run.b_enc = 2.537501424;
  run.w_dec = 2.989678323, run.b_dec = 2.138813442;
  run.w_skip = 1.403182894;
  return run;
}

inline GoldenRun GoldenOnTheFly() {
  GoldenRun run = GoldenRelu();
  run.name = "relu_l1_on_the_fly";
  run.p.w_dec = MakeGoldenCase().raw_w_dec;
  run.options.decoder = DecoderMode::kOnTheFly;
  run.w_dec = 5.693914979;
  return run;
}

inline std::vector<GoldenRun> GoldenRuns() {
  return {GoldenRelu(),         GoldenApril(),          GoldenGated(),    GoldenOpenAi(),
          GoldenBatchTopK(),    GoldenMatryoshka(),     GoldenJumpRelu(), GoldenJumpReluQuadratic(),
          GoldenJumpReluTanh(), GoldenSkipTranscoder(), GoldenOnTheFly()};
}

}  // namespace sae::model
