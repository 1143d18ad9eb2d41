#pragma once
// Places in the network where activations are taken, named as TransformerLens names them.
// Pure, thread-safe. Errors: INVALID_ARGUMENT naming the valid hooks and the nearest one.

#include <compare>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::lm {

/// In the order in which a forward pass reaches them.
enum class HookPoint { kEmbed, kResidPre, kAttnOut, kMlpOut, kResidPost };

struct Hook {
  int block = 0;  ///< 0 for kEmbed
  HookPoint point = HookPoint::kEmbed;
  auto operator<=>(const Hook&) const = default;
};

std::string HookName(const Hook& hook);
/// "hook_embed" or "blocks.N.hook_{resid_pre,attn_out,mlp_out,resid_post}" with N below `blocks`.
[[nodiscard]] absl::StatusOr<Hook> ParseHook(const std::string& name, int blocks);

}  // namespace sae::lm
