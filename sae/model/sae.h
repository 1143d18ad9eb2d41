#pragma once
// A trained SAE as it is used: to encode, decode, evaluate and export. In raw input units: whatever scale
// training used is folded in (algorithms 0.6: b_enc, b_dec times S, matrices unchanged, pre-bias kept).
//   z = W_enc (x - s b_dec) + b_enc;  relu: f = max(z, 0);  topk: the k largest z, then max(., 0);
//   x_hat = f W_dec + b_dec.
// Plain data; const functions are thread-safe on distinct workspaces. NaN inputs are refused upstream.
// Errors: INVALID_ARGUMENT (shapes, k), UNIMPLEMENTED (an architecture that is not built yet).

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

struct Sae {
  std::string architecture = "topk";   ///< topk | relu_l1
  std::int64_t d = 0;
  std::int64_t latents = 0;
  std::int64_t k = 0;                  ///< topk
  bool pre_bias = true;                ///< s
  std::vector<float> w_enc;            ///< [latents, d]
  std::vector<float> w_dec;            ///< [latents, d]
  std::vector<float> b_enc;            ///< [latents]
  std::vector<float> b_dec;            ///< [d]
  /// Where it comes from: "model", "hook", "context", "corpus", ... for exports.
  std::map<std::string, std::string> source;
};

/// Every problem of sizes and values (non-finite ones too).
[[nodiscard]] absl::Status Validate(const Sae& sae);

/// Encodes and decodes blocks of rows; owns its buffers, borrows the SAE and the pool.
class SaeRunner {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SaeRunner>> Create(const Sae& sae, ThreadPool& pool);
  ~SaeRunner();
  /// `rows`: tokens x d. The codes are valid until the next call; ids ascend inside a token, values > 0.
  [[nodiscard]] absl::StatusOr<const kernels::Codes<float>*> Encode(std::span<const float> rows);
  /// `out`: codes.tokens x d.
  [[nodiscard]] absl::Status Decode(const kernels::Codes<float>& codes, std::span<float> out);

 private:
  struct Impl;
  explicit SaeRunner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae::model
