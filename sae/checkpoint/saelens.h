#pragma once
// SAELens v6 folders: cfg.json and sae_weights.safetensors (W_enc [d, n], W_dec [n, d], b_enc, b_dec, float32).
// Writing gives inference SAEs that SAELens 6.54 loads; reading takes `standard` and `topk`. A decoder-norm
// rescaling of topk is folded on reading (W_enc, b_enc times |row|, W_dec divided), which gives the same codes.
// Pure functions. Errors: INVALID_ARGUMENT (a field that does not fit: named), UNIMPLEMENTED (architectures and
// run-time normalisations that are not built yet), DATA_LOSS.

#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/model/sae.h"

namespace sae::checkpoint {

[[nodiscard]] absl::StatusOr<model::Sae> ReadSaeLens(Env& env, const std::string& folder);

/// Makes `folder` (ALREADY_EXISTS when it is there and not empty) and writes both files; a failure leaves no
/// folder behind.
[[nodiscard]] absl::Status WriteSaeLens(Env& env, const std::string& folder, const model::Sae& sae);

}  // namespace sae::checkpoint
