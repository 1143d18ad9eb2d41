#pragma once
// The plain formulas of every architecture and option, dense, in float64, one loop a line of the
// definition, with analytic gradients: what every fast path is tested against. Slow on purpose; no
// use in production. Functions without state; thread-safe. Shapes are row-major: x [B, d], targets
// y [B, d_out], W_enc [n, d], W_dec [n, d_out], all in scaled units. Caller's errors (sizes) abort.
// Sources: Bricken et al. 2023 and Conerly et al. 2024 (ReLU with L1); Gao et al. 2024, arXiv
// 2406.04093 (TopK, AuxK, Multi-TopK); Bussmann et al. 2024 and 2025 (BatchTopK, Matryoshka);
// Rajamanoharan et al. 2024, arXiv 2404.16014 (Gated) and 2407.14435 (JumpReLU); Anthropic, January
// 2025 (tanh penalty, pre-activation loss); Paulo et al. 2025 (skip transcoders).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/model/options.h"

namespace sae::model {

struct ReferenceParameters {
  std::int64_t n = 0;
  std::int64_t d = 0;
  std::vector<double> w_enc;      ///< [n, d]; Gated: of the gate
  std::vector<double> b_enc;      ///< [n]; Gated: of the gate
  std::vector<double> w_dec;      ///< [n, d_out]; decoder on_the_fly: v, of any norm
  std::vector<double> b_dec;      ///< [d_out]
  std::int64_t d_out = 0;         ///< 0: d
  std::vector<double> b_mag;      ///< [n]; Gated
  std::vector<double> r_mag;      ///< [n]; Gated
  std::vector<double> threshold;  ///< [n]; JumpReLU: theta itself, whatever Adam sees
  std::vector<double> w_skip;     ///< [d_out, d]; empty: no skip

  std::int64_t out() const { return d_out > 0 ? d_out : d; }
};

/// Every vector of `p`, so that callers can sweep over all parameters.
inline constexpr std::vector<double> ReferenceParameters::*kReferenceMembers[] = {
    &ReferenceParameters::w_enc,     &ReferenceParameters::b_enc, &ReferenceParameters::w_dec,
    &ReferenceParameters::b_dec,     &ReferenceParameters::b_mag, &ReferenceParameters::r_mag,
    &ReferenceParameters::threshold, &ReferenceParameters::w_skip};

/// Zeros in the shapes of `p`.
ReferenceParameters ZerosLike(const ReferenceParameters& p);

struct ReferenceOptions {
  Architecture architecture = Architecture::kTopK;
  /// relu_l1: kL1, kL1Norm, kLp; gated: kL1; jumprelu: kL0, kL0Quadratic, kTanh. Others: unused.
  Penalty penalty = Penalty::kL1;
  DecoderMode decoder = DecoderMode::kUnit;  ///< kOnTheFly: directions v / |v|; else rows as given
  bool pre_bias = true;                      ///< s

  LossReduction loss = LossReduction::kSum;
  double sample_variance = 0;  ///< kOpenAi: sum over d_out of the variance of the initial sample
  double rho = 0;              ///< > 0: R(e) = rho sum e^2, whatever `loss` says

  double coefficient = 0;            ///< lambda (lambda_S of tanh); always of a mean over tokens
  double p = 1;                      ///< kLp
  double l0_target = 0;              ///< kL0Quadratic: L*
  double tanh_scale = 4;             ///< kTanh: c
  double pre_act_coefficient = 0;    ///< kTanh: lambda_P
  double frequency_coefficient = 0;  ///< jumprelu: lambda_d of sum ReLU(frequency_i - limit)
  double frequency_limit = 0.1;
  double bandwidth = 0;          ///< jumprelu: eps > 0
  double gated_aux_weight = 1;   ///< gated: weight of the auxiliary reconstruction
  double gated_main_weight = 1;  ///< gated: weight of the reconstruction (tests set one of them 0)

  std::int64_t k = 0;       ///< topk, batchtopk, matryoshka
  bool multi_topk = false;  ///< topk: + multi_weight R of the 4k largest
  double multi_weight = 1.0 / 8;
  std::int64_t aux_k = 0;  ///< topk, batchtopk, matryoshka; 0 = no AuxK
  std::vector<bool> dead;  ///< [n], as AuxK sees it; empty = none
  double aux_scale = 0;    ///< see ReferenceAuxScale

  std::vector<std::int64_t> prefixes;  ///< matryoshka: m_1 < ... < m_G = n
  std::vector<double> prefix_weights;  ///< matryoshka: w_g
  double bias_weight = 0;              ///< matryoshka: of R at prefix 0 (b_dec, and skip)

  /// Where finite differences hold the stop-gradient values; empty = live. x_hat [B, d_out] and
  /// b_dec [d_out] for AuxK's target; W_dec [n, d_out] (as stored), b_dec and W_skip for Gated's
  /// auxiliary.
  std::span<const double> frozen_x_hat;
  std::span<const double> frozen_b_dec;
  std::span<const double> frozen_w_dec;
  std::span<const double> frozen_w_skip;
};

/// What a resolved config says of them. Left to the caller, because data or time decide: the
/// current coefficient and p (here: as configured, and 1), sample_variance, bandwidth where it is
/// auto, dead, aux_scale.
ReferenceOptions ReferenceOptionsOf(const config::TrialConfig& resolved);

struct ReferenceResult {
  double loss = 0;                ///< the sum of the parts below
  double main = 0;                ///< reconstruction; Matryoshka: the weighted sum over prefixes
  double sparsity = 0;            ///< lambda's term
  double aux = 0;                 ///< AuxK's term, or Gated's auxiliary reconstruction
  std::vector<double> codes;      ///< f [B, n]
  std::vector<double> aux_codes;  ///< AuxK's a, or Gated's p = ReLU(pi) [B, n]; else empty
  std::vector<double> x_hat;      ///< [B, d_out], all latents, skip included
  ReferenceParameters gradient;   ///< of `loss`, before projection; `threshold`: w.r.t. theta
  double multi = 0;               ///< Multi-TopK's term, weight included
  double pre_act = 0;             ///< lambda_P's term
  double frequency = 0;           ///< lambda_d's term
  double l0 = 0;                  ///< mean over tokens of #{i: f_i > 0}
  double rho = 0;                 ///< of R
  double min_kept = 0;  ///< batchtopk, matryoshka: least kept positive value; 0 where none is kept
  std::vector<double> pre_activations;  ///< z [B, n]; Gated: h, without a bias
  std::vector<double> multi_codes;      ///< of the 4k largest [B, n]; else empty
  std::vector<bool> window;             ///< jumprelu: |z - theta| < eps / 2 and z > 0 [B, n]
  std::vector<double> prefix_losses;    ///< matryoshka: R at each prefix, without weight
};

/// The loss as `o` defines it and its gradient. `y` may be `x` itself. Thresholds get the rectangle
/// window's pseudo-gradient; everything else is the true derivative away from kinks, with AuxK's
/// target and Gated's auxiliary decoder held.
///   rows: G = 2 rho (x_hat - y); u_i = d_i . G
///   z = W_enc (x - s b_dec) + b_enc; x_hat = b_dec + W_skip x + sum f_i d_i
ReferenceResult ReferenceForwardBackward(const ReferenceParameters& p, std::span<const double> x,
                                         std::span<const double> y, const ReferenceOptions& o);

/// rho of R(e) = rho sum over tokens and d_out of e^2: 1/B, 1/(B d_out), 1/(B sample_variance) or
/// 1 / sum over the batch of |y - mean y|^2 (infinite for constant targets).
double ReferenceRho(LossReduction loss, std::span<const double> y, std::int64_t d_out,
                    double sample_variance);

/// aux_scale such that L_aux = aux_scale sum |ea|^2 / V = alpha V0 mean(ea^2) / V, V0 = R(x - mean
/// x) of the initial sample in the same reduction: every reduction is a constant times OpenAI's.
double ReferenceAuxScale(double alpha, LossReduction loss, std::int64_t rows, std::int64_t d_out,
                         double sample_variance);

/// z = W_enc (x - s b_dec) + b_enc, [B, n].
std::vector<double> ReferencePreActivations(const ReferenceParameters& p, std::span<const double> x,
                                            bool pre_bias = true);

/// Indices of the k largest of `row`, ascending; ties to the lower index.
std::vector<std::int64_t> ReferenceTopK(std::span<const double> row, std::int64_t k);

/// L = (1/B) sum_b [ |x_hat - x|^2 + lambda sum_i f_i ].
ReferenceResult ReferenceReluL1(const ReferenceParameters& p, std::span<const double> x,
                                double lambda);

struct ReferenceTopKOptions {
  std::int64_t k = 0;
  std::int64_t aux_k = 0;  ///< 0 = no AuxK
  std::vector<bool> dead;  ///< [n]; empty = none
  double main_scale = 0;   ///< L_main = main_scale * sum over tokens of |x_hat - x|^2
  /// L_aux = aux_scale * sum |ea|^2 / V, V = mean over B and d of (t - mean_b t)^2
  double aux_scale = 0;
  std::span<const double> frozen_x_hat;
  std::span<const double> frozen_b_dec;
};

/// L = L_main + L_aux with t = x - sg(x_hat) + sg(b_dec), ea = W_dec^T a + b_dec - t; a the k_aux
/// largest of (dead ? z : 0), positive ones. V = 0 or not finite: no aux loss, no aux gradient.
ReferenceResult ReferenceTopKAux(const ReferenceParameters& p, std::span<const double> x,
                                 const ReferenceTopKOptions& options);

// --- the update ---

struct ReferenceAdam {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};

struct ReferenceUpdateOptions {
  ReferenceAdam adam;
  DecoderMode decoder = DecoderMode::kUnit;
  double clip = 0;  ///< largest global norm; 0 = off
  double ema = 0;   ///< mu; 0 = off
  ThresholdParameter threshold = ThresholdParameter::kLog;
  double threshold_lr = 0;  ///< of theta (or log theta) alone; 0 = adam.lr
};

/// Parameters with what an optimizer keeps of them. `m`, `v`, `ema`: of log theta where Adam sees
/// that.
struct ReferenceState {
  ReferenceParameters p, m, v, ema;
  double ema_weight = 0;  ///< 1 - mu^t: the mean in use is ema / ema_weight
  std::int64_t t = 0;     ///< steps made
};
ReferenceState ReferenceStart(const ReferenceParameters& p);

/// One step. kUnit: project, clip, EMA, Adam, renormalise the rows that have a gradient or whose m
/// is not 0. kUnitBefore: renormalise all rows, project, clip, EMA, Adam. kFree, kOnTheFly: clip,
/// EMA, Adam. The clip norm is that of all parameters after projection (of log theta where Adam
/// sees it); gradients are multiplied by clip / max(norm, clip). EMA += (1 - mu) (p - EMA), before
/// Adam. Returns the norm before clipping.
double ReferenceUpdate(ReferenceState& s, ReferenceParameters gradient,
                       const ReferenceUpdateOptions& o);

/// One Adam step of all parameters at time t (from 1), as kUnit above without clip and EMA; `m` and
/// `v` hold the moments.
void ReferenceUpdate(ReferenceParameters& p, ReferenceParameters gradient, ReferenceParameters& m,
                     ReferenceParameters& v, const ReferenceAdam& adam, std::int64_t t);

/// g_i <- g_i - (g_i . dhat_i) dhat_i for each decoder row.
void ReferenceProject(const ReferenceParameters& p, std::vector<double>& w_dec_gradient);

// --- folding after training ---

/// The same SAE in raw units x = S x': biases and thresholds times S (Gated: both biases), W_skip
/// and matrices unchanged; with `pre_bias` false too. Codes and x_hat are S times the scaled ones.
ReferenceParameters ReferenceFoldInputScale(const ReferenceParameters& p, double scale);

/// Unit decoder rows: d_i / N_i, and W_enc, b_enc, b_mag, threshold of latent i times N_i = |d_i|
/// (a zero row is left alone). x_hat is unchanged except where latents are selected by rank.
ReferenceParameters ReferenceFoldDecoderNorms(const ReferenceParameters& p);

/// The JumpReLU SAE that a Gated one is: W_enc exp(r), b_enc = b_mag, theta = max(0, b_mag - exp(r)
/// b_gate).
ReferenceParameters ReferenceGatedAsJumpRelu(const ReferenceParameters& p);

}  // namespace sae::model
