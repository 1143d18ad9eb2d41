#pragma once
// The plain formulas of both architectures, dense, in float64, one loop a line of the definition:
// what every fast path is tested against. Slow on purpose; no use in production. Functions without
// state; thread-safe. Shapes are row-major: x [B, d], W_enc and W_dec [n, d]. Caller's errors
// (sizes) abort. Sources: Bricken et al. 2023 (ReLU with L1, unit-norm decoder); Gao et al. 2024,
// arXiv 2406.04093 (TopK, AuxK).

#include <cstdint>
#include <span>
#include <vector>

namespace sae::model {

struct ReferenceParameters {
  std::int64_t n = 0;
  std::int64_t d = 0;
  std::vector<double> w_enc;  ///< [n, d]
  std::vector<double> b_enc;  ///< [n]
  std::vector<double> w_dec;  ///< [n, d]
  std::vector<double> b_dec;  ///< [d]
};

struct ReferenceResult {
  double loss = 0;
  double main = 0;                ///< reconstruction term
  double sparsity = 0;            ///< lambda * mean L1
  double aux = 0;                 ///< AuxK term
  std::vector<double> codes;      ///< f [B, n]
  std::vector<double> aux_codes;  ///< a [B, n]; empty without AuxK
  std::vector<double> x_hat;      ///< [B, d]
  ReferenceParameters gradient;   ///< of `loss`, before projection
};

/// z = W_enc (x - b_dec) + b_enc, [B, n].
std::vector<double> ReferencePreActivations(const ReferenceParameters& p,
                                            std::span<const double> x);

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
  double aux_scale =
      0;  ///< L_aux = aux_scale * sum |ea|^2 / V, V = mean over B and d of (t - mean_b t)^2
  /// Where finite differences hold the stop-gradient values: x_hat [B, d] and b_dec [d]; empty =
  /// live.
  std::span<const double> frozen_x_hat;
  std::span<const double> frozen_b_dec;
};

/// L = L_main + L_aux with t = x - sg(x_hat) + sg(b_dec), ea = W_dec^T a + b_dec - t; a the k_aux
/// largest of (dead ? z : 0), positive ones. V = 0 or not finite: no aux loss, no aux gradient.
ReferenceResult ReferenceTopKAux(const ReferenceParameters& p, std::span<const double> x,
                                 const ReferenceTopKOptions& options);

/// g_i <- g_i - (g_i . dhat_i) dhat_i for each decoder row.
void ReferenceProject(const ReferenceParameters& p, std::vector<double>& w_dec_gradient);

/// One Adam step of all parameters at time t (from 1) with projected decoder gradients, then
/// decoder rows renormalised; `m` and `v` hold the moments.
struct ReferenceAdam {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};
void ReferenceUpdate(ReferenceParameters& p, ReferenceParameters gradient, ReferenceParameters& m,
                     ReferenceParameters& v, const ReferenceAdam& adam, std::int64_t t);

/// Zeros in the shapes of `p`.
ReferenceParameters ZerosLike(const ReferenceParameters& p);

}  // namespace sae::model
