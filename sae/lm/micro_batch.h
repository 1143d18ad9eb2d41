#pragma once
// Cuts a batch into pieces that one thread takes through all blocks: its activations stay in cache
// and threads never wait for each other. Pure.

#include <cstdint>
#include <vector>

#include "sae/lm/language_model.h"

namespace sae::lm {

struct MicroBatch {
  std::int64_t first_token = 0;
  /// Offsets of its spans from `first_token`, and its token count as the last element.
  std::vector<std::int64_t> begins;
  std::int64_t tokens() const { return begins.back(); }
};

/// Whole spans up to `target` tokens; a longer span is a piece of its own. Longest pieces first, so
/// that the threads end together.
std::vector<MicroBatch> CutMicroBatches(const TokenBatch& batch, std::int64_t target);

}  // namespace sae::lm
