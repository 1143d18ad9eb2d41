#pragma once
// Places in the network where activations are taken, named as TransformerLens names them.
// Pure, thread-safe. Errors: INVALID_ARGUMENT naming the valid hooks and the nearest one.

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::lm {

/// In the order in which a forward pass reaches them. kLn2Normalized is what enters the MLP before
/// its norm's gain: the residual stream after attention divided by its root mean square, a row of
/// norm sqrt(d).
enum class HookPoint { kEmbed, kResidPre, kAttnOut, kLn2Normalized, kMlpOut, kResidPost };

struct Hook {
  int block = 0;  ///< 0 for kEmbed
  HookPoint point = HookPoint::kEmbed;
  auto operator<=>(const Hook&) const = default;
};

/// What ParseHook accepts, for messages: "hook_embed and blocks.N.{...} for N = 0..29".
std::string HookNames(std::int64_t blocks);
std::string HookName(const Hook& hook);
/// "hook_embed", "blocks.N.hook_{resid_pre,attn_out,mlp_out,resid_post}" or
/// "blocks.N.ln2.hook_normalized" with N below `blocks`.
[[nodiscard]] absl::StatusOr<Hook> ParseHook(const std::string& name, int blocks);

}  // namespace sae::lm
