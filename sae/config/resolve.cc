// The defaults that depend on other fields (spec numerics.md 6, algorithms.md 0.5, 0.9, 4.3).

#include <algorithm>
#include <cmath>

#include "absl/strings/str_join.h"

#include "sae/config/mesh.h"
#include "sae/config/run_config.h"

namespace sae::config {
namespace {

bool Ranked(const SaeConfig& c) {
  return c.architecture == "topk" || c.architecture == "batchtopk" ||
         c.architecture == "matryoshka";
}

std::int64_t PowerOfTwoNear(double x) {
  return x <= 1 ? 1 : std::int64_t{1} << static_cast<int>(std::lround(std::log2(x)));
}

/// The whole part of x >= 0; what is not a number counts as 0 (Validate resolves before it judges).
std::int64_t Whole(double x) { return x > 0 ? static_cast<std::int64_t>(std::min(x, 9e18)) : 0; }

void ResolveSae(TrialConfig& c, std::int64_t d) {
  SaeConfig& sae = c.sae;
  const bool openai = c.train.preset == "openai";
  if (sae.penalty == "auto") {
    sae.penalty = Ranked(sae) ? "none" : sae.architecture == "jumprelu" ? "l0" : "l1";
  }
  // Penalties weighted by decoder norms come with free norms and without a pre-bias.
  const bool free_norms = sae.penalty == "l1_norm" || sae.penalty == "tanh";
  if (sae.pre_bias == "auto") sae.pre_bias = free_norms || sae.transcoder ? "off" : "on";
  if (sae.decoder == "auto") sae.decoder = free_norms ? "free" : openai ? "unit_before" : "unit";
  if (sae.loss == "auto") sae.loss = openai ? "openai" : "sum";
  if (!sae.aux_k) {
    sae.aux_k = Ranked(sae) ? std::min(PowerOfTwoNear(static_cast<double>(d) / 2), sae.latents) : 0;
  }
  if (sae.penalty == "tanh" && !sae.bandwidth) {
    // 2 is for rows of norm sqrt(d); z scales with the rows.
    const double scale =
        sae.input_scale == "rms" ? std::sqrt(std::max<double>(1, static_cast<double>(d))) : 1;
    if (sae.input_scale != "none") sae.bandwidth = 2 / scale;
  }
  if (sae.architecture == "matryoshka") {
    const auto prefixes = ParsePrefixes(sae.prefixes, sae.latents);
    if (prefixes.ok()) sae.prefixes = absl::StrJoin(*prefixes, ",");
  }
  if (!sae.threshold_lr && sae.threshold_parameter == "log") sae.threshold_lr = 3e-2;
  if (!sae.dead_after_tokens) {
    sae.dead_after_tokens = std::max<std::int64_t>(1, Whole(std::min(1e7, c.train.tokens / 8)));
  }
}

void ResolveTrain(TrialConfig& c) {
  TrainConfig& train = c.train;
  const auto steps = static_cast<double>(TotalSteps(c));
  if (!train.lr) train.lr = 2e-4 / std::sqrt(static_cast<double>(c.sae.latents) / 16384);
  const bool no_momentum = c.sae.architecture == "gated" || c.sae.architecture == "jumprelu";
  if (!train.beta1) train.beta1 = no_momentum ? 0.0 : 0.9;
  if (!train.epsilon) train.epsilon = train.preset == "openai" ? 6.25e-10 : 1e-8;
  if (!train.lr_warmup_steps) {
    train.lr_warmup_steps = Whole(std::min(1000.0, 0.05 * steps));
  }
  if (!train.sparsity_warmup_steps) {
    train.sparsity_warmup_steps = Whole(std::min(5000.0, 0.1 * steps));
  }
  if (!train.replicas) train.replicas = AutoReplicas(c);
  if (!train.eval_every_tokens) train.eval_every_tokens = train.tokens / 10;
}

}  // namespace

std::int64_t TotalSteps(const TrialConfig& c) {
  return std::max<std::int64_t>(
      1, Whole(c.train.tokens / static_cast<double>(std::max<std::int64_t>(1, c.train.batch))));
}

TrialConfig Resolve(TrialConfig c, std::int64_t d) {
  ResolveSae(c, d);
  ResolveTrain(c);
  return c;
}

}  // namespace sae::config
