#pragma once
// SAELens v6 folders: cfg.json and sae_weights.safetensors (W_enc [d, n], W_dec [n, d_out], b_enc
// or the gated biases, b_dec, threshold, W_skip [d_out, d], float32). docs/formats/saelens.md has
// the table of architectures. Reading takes standard, topk, jumprelu, gated, transcoder,
// skip_transcoder, jumprelu_transcoder and jumprelu_skip_transcoder, and the training checkpoints
// of batchtopk and matryoshka_batchtopk. Writing gives inference SAEs that SAELens 6.54 loads:
// batchtopk and matryoshka as jumprelu; gated transcoders as jumprelu_transcoder. Decoder norms are
// folded (codes times |row|), but topk's, whose selection they would change; a norm-aware topk's
// (rescale_acts_by_decoder_norm) are folded on reading. Pure functions. Errors: INVALID_ARGUMENT (a
// field that does not fit: named), FAILED_PRECONDITION (batchtopk before its first threshold),
// UNIMPLEMENTED (what one of the two sides cannot hold: says why, and what to do), DATA_LOSS.

#include <span>
#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/model/sae.h"

namespace sae::checkpoint {

[[nodiscard]] absl::StatusOr<model::Sae> ReadSaeLens(Env& env, const std::string& folder);

/// Makes `folder` (ALREADY_EXISTS when it is there and not empty) and writes both files; a failure
/// leaves no folder behind.
[[nodiscard]] absl::Status WriteSaeLens(Env& env, const std::string& folder, const model::Sae& sae);

/// What the SAE in `folder`, read back, gives for raw `rows` [tokens, d]: golden.safetensors beside
/// it with x, f and x_hat (a transcoder's output), for readers to check themselves against.
[[nodiscard]] absl::Status WriteSaeLensGolden(Env& env, const std::string& folder,
                                              std::span<const float> rows, ThreadPool& pool);

}  // namespace sae::checkpoint
