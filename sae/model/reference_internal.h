#pragma once
// Shared by the files of the reference only: indexing, and the pass that they fill step by step.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/model/reference.h"

namespace sae::model::reference {

inline std::size_t At(std::int64_t row, std::int64_t width, std::int64_t column) {
  return static_cast<std::size_t>(row * width + column);
}
inline std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

double Dot(const double* a, const double* b, std::int64_t d);

/// One forward and backward pass.
struct Pass {
  const ReferenceParameters& p;
  const ReferenceOptions& o;
  std::span<const double> x;
  std::span<const double> y;
  std::int64_t rows = 0;
  std::int64_t d_out = 0;
  std::vector<double> direction;  ///< [n, d_out]: what decodes
  std::vector<double> norm;       ///< [n]: N_i = |direction_i|
  std::vector<double> delta;      ///< [B, n]: dL/dz; Gated: dL/dh
  ReferenceResult r;              ///< r.gradient.w_dec: w.r.t. the directions until the end
};

/// Directions of `stored` rows [n, d_out]: themselves, or v / |v| on the fly.
std::vector<double> Directions(const Pass& pass, std::span<const double> stored);

/// sum_{i < prefix} f_i rows_i + bias, plus `skip` x where it is not empty.
std::vector<double> Decode(const Pass& pass, const std::vector<double>& f, std::int64_t prefix,
                           std::span<const double> rows, std::span<const double> bias,
                           std::span<const double> skip);

/// Per token the k largest of z, those above 0; latents outside `mask` count as 0.
std::vector<double> SelectTopK(const Pass& pass, std::int64_t k, const std::vector<bool>* mask);
/// The k B largest of the batch's positive z; ties to the lower (token, latent).
std::vector<double> SelectBatchTopK(const Pass& pass, std::int64_t k);

/// u_bi = d_i . G_b.
std::vector<double> Along(const Pass& pass, const std::vector<double>& G);

/// dL/dx_hat = G: what it gives decoder rows by the codes f of latents below `prefix`, and b_dec.
void AddDecoderGradient(Pass& pass, const std::vector<double>& G, const std::vector<double>& f,
                        std::int64_t prefix);

/// weight R(x_hat of latents below `prefix` - y): adds its gradient to the decoder, b_dec and
/// W_skip; `u` [B, n] gets d_i . G (0 from `prefix` on). Returns R without the weight.
double AddReconstruction(Pass& pass, const std::vector<double>& f, std::int64_t prefix,
                         double weight, std::vector<double>* u);

void ForwardRelu(Pass& pass);
void ForwardRanked(Pass& pass);
void ForwardGated(Pass& pass);
void ForwardJumpRelu(Pass& pass);
/// AuxK of the ranked architectures.
void AddAuxK(Pass& pass);

/// r.gradient.w_dec_i += coefficient d_i / N_i: the derivative of a term that |d_i| multiplies.
void AddNormGradient(Pass& pass, std::int64_t latent, double coefficient);

}  // namespace sae::model::reference
