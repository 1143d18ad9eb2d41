#pragma once
// Work by latent: the index of entries by latent (CSC), the rules of architectures, dead counters.
// All pointers are device memory; kernels are enqueued on `stream`. Per-entry arrays lie in CSR
// order. A warp takes a latent, a block where its list is long; the sums over a latent's entries
// are float64, entries dealt to lanes and lanes added in a fixed tree, so bits do not depend on the
// device; formulas and roundings are those of sae/train/engine/{topk,relu,jumprelu,gated}.cc.
// Errors: kInvalidArgument where a size is negative or a needed pointer is null; kLibraryFailed.
// Partners: namespace plain, the same params with host memory, entries in token order
// (latents_cpu.cc). Sources: sae algorithms 0.2, 1, 2.

#include <cstdint>

#include "sae/kernels/device/slots.h"

namespace sae::kernels::device {

/// Entries grouped by latent; tokens ascend inside a latent.
struct DeviceIndex {
  std::int64_t latents = 0;
  std::int32_t* indptr = nullptr;   ///< latents + 1
  std::int32_t* entries = nullptr;  ///< capacity of the codes: positions in CSR order
};

/// A function of the codes alone (stable sort by latent). Partner: scratch is not used.
struct BuildIndexParams {
  DeviceCodes codes;
  DeviceIndex out;
  void* scratch = nullptr;         ///< 256-byte aligned, overwritten
  std::int64_t scratch_bytes = 0;  ///< BuildIndexScratchBytes(codes.capacity, out.latents)
};
std::int64_t BuildIndexScratchBytes(std::int64_t capacity, std::int64_t latents);

enum class LatentRule { kPassThrough, kRelu, kJumpRelu, kGated };

/// What the backward does between u and delta, and the gradients of one value a latent. With
/// share = lambda / tokens:
///  kPassThrough  delta = u (not written where delta is null or u itself); penalty 0
///  kRelu         delta = u + share slope, slope = 1, |W_dec_i| (norms) or p (f + 1e-12)^(p - 1),
///                f = codes.values; norm = share sum f; penalty = share sum f |W_dec_i| or share
///                sum f^p; powers, next_powers = sum f^p with p now and next
///  kJumpRelu     delta = f > 0 ? u : 0; window: 2 |z - theta| < bandwidth; coefficient = lambda,
///                plus frequency_coefficient where a latent fires on more than a tenth of tokens;
///                d theta = -(theta sum over window of u + coefficient window / tokens) /
///                bandwidth, times theta for log thetas
///   with tanh_scale = c > 0 the penalty is share sum tanh(c f N) + pre sum of ReLU(theta - z) over
///                all tokens, N = |W_dec_i| or 1, pre = pre_act_coefficient N / tokens: u becomes
///                u + share c N (1 - tanh^2), delta has pre more where z >= theta and dense_delta
///                = -pre is what every token has (delta_sums and b_enc hold it), coefficient has no
///                lambda, d theta has pre for each token with z < theta, norm = dL/dN
///  kGated        dm = f > 0 ? u : 0, dpi = v + share, delta = scale dm + dpi; b_enc = sum dpi,
///                b_mag = sum dm, r_mag = sum dm (scale z); penalty = share sum gate
struct LatentRuleParams {
  LatentRule rule = LatentRule::kPassThrough;
  DeviceCodes codes;
  DeviceIndex index;
  const float* f = nullptr;      ///< kJumpRelu, kGated: decode weights
  const float* u = nullptr;      ///< per entry
  const float* v = nullptr;      ///< kGated: per entry, of the gate's own loss
  const float* gate = nullptr;   ///< kGated: per entry, CodeWeights' gate; null: penalty is 0
  const float* theta = nullptr;  ///< kJumpRelu, latents
  const float* scale = nullptr;  ///< kGated, latents: e^r
  const float* norms = nullptr;  ///< kRelu, kJumpRelu with tanh: |W_dec_i|, or null: 1
  /// Device scalar: sparsity coefficient in force (quadratic L0: already the step's coefficient).
  const double* lambda = nullptr;
  double bandwidth = 0;              ///< kJumpRelu
  double frequency_coefficient = 0;  ///< kJumpRelu
  double tanh_scale = 0;             ///< kJumpRelu: above 0 for the penalty tanh
  double pre_act_coefficient = 0;    ///< with tanh_scale
  const double* below = nullptr;     ///< with tanh_scale, latents: BelowSums's
  bool log_threshold = true;
  bool penalty_counts = true;  ///< kJumpRelu: share sum 1[f > 0] in the penalty; not quadratic L0
  double power = 1;            ///< kRelu, p-annealed: exponent; 1 = plain L1
  const double* power_now = nullptr;   ///< device scalar instead of `power`, or null
  const double* power_next = nullptr;  ///< device scalar: exponent of next_powers
  /// Adds to delta_sums and b_enc instead of writing them (a second set of codes, such as AuxK's).
  bool add_sums = false;
  const std::int32_t* enabled = nullptr;  ///< device flag; 0: nothing is written
  float* delta = nullptr;                 ///< per entry, dL/dz
  float* delta_sums = nullptr;            ///< latents
  float* b_enc = nullptr;         ///< latents: gradient (kGated: the gate's bias; else delta_sums)
  float* b_mag = nullptr;         ///< kGated
  float* r_mag = nullptr;         ///< kGated
  float* threshold = nullptr;     ///< kJumpRelu
  float* norm = nullptr;          ///< kRelu, kJumpRelu with norms: dL/d|W_dec_i|, or null
  float* dense_delta = nullptr;   ///< kJumpRelu with tanh_scale, latents
  double* penalty = nullptr;      ///< latents: this latent's part of the loss's penalty, or null
  double* powers = nullptr;       ///< kRelu: latents, or null
  double* next_powers = nullptr;  ///< kRelu: latents, or null
};

/// Decode weights from z: kJumpRelu f = z > theta ? z : 0; kGated gate = z + b_gate,
/// f = max(0, scale z + b_mag).
struct CodeWeightsParams {
  LatentRule rule = LatentRule::kJumpRelu;
  DeviceCodes codes;
  const float* theta = nullptr;
  const float* scale = nullptr;
  const float* b_gate = nullptr;
  const float* b_mag = nullptr;
  float* f = nullptr;     ///< per entry
  float* gate = nullptr;  ///< kGated, per entry
};

/// Per-latent constants of a step. kJumpRelu: theta = exp(threshold) or threshold,
/// lower = max(0, theta - half); kGated: lower = -b_gate, scale = exp(r_mag). The exponential in
/// float64, rounded once.
struct LatentConstantsParams {
  LatentRule rule = LatentRule::kJumpRelu;
  std::int64_t latents = 0;
  const float* threshold = nullptr;
  bool log_threshold = true;
  float half = 0;  ///< half the window's width
  const float* b_gate = nullptr;
  const float* r_mag = nullptr;
  float* theta = nullptr;
  float* lower = nullptr;
  float* scale = nullptr;
};

/// since[i] = some entry of i has f > 0 ? 0 : since[i] + tokens; *dead = how many have then
/// since >= dead_after, and where `ids` is given their local ids, ascending (ids beyond *dead are
/// not written); *active = entries with f > 0.
struct SinceFiredParams {
  DeviceCodes codes;
  DeviceIndex index;            ///< latents alone is used
  const float* f = nullptr;     ///< per entry
  std::int64_t tokens = 0;      ///< of all ranks' batch
  std::int64_t dead_after = 0;  ///< tokens
  /// Where given, the counters are read here and written to `since`, so that a step that is given
  /// up can be repeated; null: `since` is read and rewritten.
  const std::int64_t* since_before = nullptr;
  std::int64_t* since = nullptr;    ///< latents
  std::int32_t* dead = nullptr;     ///< device scalar
  std::int32_t* ids = nullptr;      ///< latents, or null
  std::int64_t* active = nullptr;   ///< device scalar, may be null
  std::int32_t* scratch = nullptr;  ///< latents + 1024
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error BuildIndex(const device::BuildIndexParams& params, void* stream);
[[nodiscard]] Error LatentRuleBackward(const device::LatentRuleParams& params, void* stream);
[[nodiscard]] Error CodeWeights(const device::CodeWeightsParams& params, void* stream);
[[nodiscard]] Error LatentConstants(const device::LatentConstantsParams& params, void* stream);
[[nodiscard]] Error SinceFired(const device::SinceFiredParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void BuildIndex(const device::BuildIndexParams& params);
void LatentRuleBackward(const device::LatentRuleParams& params);
void CodeWeights(const device::CodeWeightsParams& params);
void LatentConstants(const device::LatentConstantsParams& params);
void SinceFired(const device::SinceFiredParams& params);
}  // namespace sae::kernels::plain
