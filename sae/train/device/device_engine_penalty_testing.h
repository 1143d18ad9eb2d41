#pragma once
// Losses and penalties beyond the plain ones, for the device engine's tests: small SAEs whose
// exponents, coefficients and prefixes change within a few steps.

#include <string>
#include <vector>

#include "sae/train/device/device_engine_testing.h"

namespace sae::train::testing {

inline constexpr int kPenaltySteps = 12;
inline constexpr std::int64_t kPenaltyWidth = 16;

inline std::vector<const char*> PenaltyNames() {
  return {"relu_lp",       "relu_lp_target",     "relu_fvu",           "gated_fvu",
          "topk_fvu",      "matryoshka_bias",    "matryoshka_fvu",     "jumprelu_quadratic",
          "jumprelu_tanh", "jumprelu_tanh_unit", "jumprelu_frequency", "jumprelu_tanh_certified"};
}

inline config::TrialConfig PenaltyConfig(const std::string& name) {
  const std::string kind = name.substr(name.find('_') + 1);
  const std::string first = name.substr(0, name.find('_'));
  config::TrialConfig c = AcceptanceConfig(first == "relu" ? "relu_l1" : first);
  c.sae.latents = 64;
  c.train.batch = 32;
  c.train.tokens = kPenaltySteps * 32;
  c.sae.dead_after_tokens = 3 * 32;
  if (kind.starts_with("lp")) c.sae.penalty = "lp";
  if (kind == "lp_target") c.sae.target_l0 = 8;
  if (kind == "fvu") c.sae.loss = "fvu";
  if (kind == "fvu" && c.sae.l1_coefficient > 0) c.sae.l1_coefficient = 0.001;
  if (first == "matryoshka") {
    c.sae.prefixes = "5,24";
    c.sae.prefix_weights = "mean_with_bias";
    c.train.clip = 0.3;
  }
  if (kind == "quadratic") {
    c.sae.penalty = "l0_quadratic";
    c.sae.l0_coefficient = 0.1;
    c.sae.target_l0 = 6;
  }
  if (kind == "frequency") c.sae.frequency_coefficient = 0.02;
  if (kind.starts_with("tanh")) {
    c.sae.penalty = "tanh";
    c.sae.bandwidth = 0.3;
    c.sae.pre_act_coefficient = 0.01;
    c.train.clip = 0.5;
  }
  if (kind == "tanh_certified") c.train.selection = "certified";
  if (kind == "tanh_unit") {
    c.sae.decoder = "unit";
    c.sae.pre_bias = "on";
    c.sae.threshold_parameter = "raw";
  }
  return c;
}

inline std::vector<std::vector<float>> PenaltyBatches(const config::TrialConfig& config,
                                                      std::uint64_t seed) {
  SparseData data(40, kPenaltyWidth, 3, seed);
  std::vector<std::vector<float>> out;
  for (int t = 0; t < kPenaltySteps; ++t) out.push_back(data.Rows(config.train.batch, 4));
  return out;
}

}  // namespace sae::train::testing
