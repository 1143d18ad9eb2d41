#pragma once
// The encoder's float product on the CPU: rows of x against latents packed in panels, z = x W^T,
// one implementation per instruction set chosen at run time (Highway). Each z is one chain of fused
// multiply-adds from 0 in ascending order of the inner dimension (product and sum rounded apart
// where the instruction set has no FMA), so its bits depend on the two rows alone: not on their
// places, on what lies beside them, or on the shape of the call. NaN and infinities propagate as
// IEEE says. Rows may have any alignment; panels are aligned to kAlignment. Outputs may not overlap
// inputs. Reentrant; no errors.

#include <cstdint>

namespace sae::kernels {

/// Latents of a panel, which holds [d][kPanel].
inline constexpr std::int64_t kPanel = 64;

/// Floats of the panels of `latents` rows.
constexpr std::int64_t PanelFloats(std::int64_t latents, std::int64_t d) {
  return (latents + kPanel - 1) / kPanel * kPanel * d;
}

/// Packs `count` rows of w (stride d): rows[j] where `rows` is not null, else row j. The last panel
/// is filled up with zeros.
void PackPanels(const float* w, const std::int32_t* rows, std::int64_t count, std::int64_t d,
                float* panels);

/// z[t * ld + j] for t < tokens and j < count rounded up to a multiple of kPanel: as many columns
/// are written. On the calling thread.
void MultiplyPanels(const float* x, std::int64_t tokens, std::int64_t d, const float* panels,
                    std::int64_t count, float* z, std::int64_t ld);

}  // namespace sae::kernels
