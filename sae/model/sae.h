#pragma once
// A trained SAE or transcoder as it is used: to encode, decode, evaluate and export. In raw input
// units: whatever scale training used is folded in (sae_fold.h).
//   x' = normalised x (below);  z = W_enc (x' - s b_dec) + b_enc
//   relu:     f = max(z, 0)                          topk: the k largest z, then max(., 0)
//   jumprelu: f = z where z > max(0, threshold), strict; so batchtopk, matryoshka at inference
//   gated:    h = W_enc (x' - s b_dec);  f = max(exp(r_mag) h + b_mag, 0) where h + b_enc > 0
//   y = f W_dec + b_dec + W_skip x, mapped back where `restore`.
// Plain data; const functions are thread-safe on distinct workspaces. NaN inputs are refused
// upstream. Errors: INVALID_ARGUMENT (shapes, k), UNIMPLEMENTED (an architecture of another name).
// Sources: Gao et al. 2024 (TopK); Rajamanoharan et al. 2024 (Gated; JumpReLU); Bussmann et al.
// 2024 (BatchTopK's threshold); Dunefsky et al. 2024 (transcoders).

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/base/status.h"
#include "sae/kernels/codes.h"

namespace sae::model {

enum class Activation { kRelu, kTopK, kJumpRelu, kGated };

/// Per token; d >= 2 for kLayerNorm.
enum class Normalisation {
  kNone,
  kLayerNorm,     ///< x' = (x - mean) / (std + 1e-5), std unbiased; back: y std + mean
  kConstantNorm,  ///< x' = c x, c = sqrt(d) / |x| (1 where x = 0); back: y / c
};

struct Sae {
  /// relu_l1 | topk | batchtopk | matryoshka | gated | jumprelu: how it was trained; see
  /// ActivationOf.
  std::string architecture = "topk";
  std::int64_t d = 0;
  std::int64_t d_out = 0;  ///< 0 = d; another width only for transcoders
  std::int64_t latents = 0;
  std::int64_t k = 0;       ///< topk; for information: batchtopk, matryoshka
  bool pre_bias = true;     ///< s; false where the widths differ
  bool transcoder = false;  ///< y stands for another activation than x
  Normalisation normalisation = Normalisation::kNone;
  /// With a normalisation: y is mapped back, and W_skip reads x'. Else y stays as it is and W_skip
  /// reads x.
  bool restore = true;
  std::vector<float> w_enc;      ///< [latents, d]
  std::vector<float> w_dec;      ///< [latents, width()]
  std::vector<float> b_enc;      ///< [latents]; gated: the gate's
  std::vector<float> b_dec;      ///< [width()]
  std::vector<float> threshold;  ///< [latents]: jumprelu, batchtopk, matryoshka; below 0 acts as 0
  std::vector<float> b_mag, r_mag;  ///< [latents]: gated
  std::vector<float> w_skip;        ///< [width(), d], or empty; transcoders
  /// Where it comes from: "model", "hook", "target_hook", "context", "corpus", ... for exports.
  std::map<std::string, std::string> source;

  /// Of y.
  std::int64_t width() const { return d_out > 0 ? d_out : d; }
};

/// UNIMPLEMENTED names the known ones.
[[nodiscard]] absl::StatusOr<Activation> ActivationOf(const std::string& architecture);

/// Every problem of sizes and values (non-finite ones too).
[[nodiscard]] absl::Status Validate(const Sae& sae);

/// Encodes and decodes blocks of rows; owns its buffers, borrows the SAE and the pool.
class SaeRunner {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SaeRunner>> Create(const Sae& sae,
                                                                         ThreadPool& pool);
  ~SaeRunner();
  /// `rows`: tokens x d, raw. The codes are valid until the next call; ids ascend inside a token,
  /// values > 0.
  [[nodiscard]] absl::StatusOr<const kernels::Codes<float>*> Encode(std::span<const float> rows);
  /// `out`: codes.tokens x width(). `rows`: those that were encoded; may be empty unless
  /// needs_rows().
  [[nodiscard]] absl::Status Decode(const kernels::Codes<float>& codes, std::span<const float> rows,
                                    std::span<float> out);
  /// Encode and Decode at once; the codes as of Encode.
  [[nodiscard]] absl::StatusOr<const kernels::Codes<float>*> Forward(std::span<const float> rows,
                                                                     std::span<float> out);
  /// Whether y depends on x beside the codes: a skip, or a normalisation that is mapped back.
  bool needs_rows() const;

 private:
  struct Impl;
  explicit SaeRunner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae::model
