#include "sae/train/engine/engine_gang.h"

namespace sae::train {

void EngineGang::Announce(std::span<const float> rows) {
  announced_ = rows;
  for (Slot& slot : slots_) slot.loaded = slot.rounded = false;
}

std::shared_ptr<const LoadedRows<float>> EngineGang::Load(std::span<const float> rows, const Context& context) {
  if (rows.empty() || rows.data() != announced_.data() || rows.size() != announced_.size()) return nullptr;
  Slot& slot = slots_[context.options.input_scale == model::InputScale::kLayerNorm ? 1 : 0];
  if (slot.rows == nullptr) slot.rows = std::make_shared<LoadedRows<float>>();
  if (!slot.loaded) slot.rows->Load(rows, context, /*keep=*/false);
  slot.loaded = true;
  return slot.rows;
}

const kernels::ScreenTokens* EngineGang::Tokens(const float* x, std::int64_t tokens, std::int64_t d, bool bf16,
                                                ThreadPool& pool) {
  for (Slot& slot : slots_) {
    if (!slot.loaded || slot.rows->x() != x || slot.rows->tokens() != tokens) continue;
    if (!slot.rounded || slot.tokens.bf16() != bf16) slot.tokens.Prepare(x, tokens, d, bf16, pool);
    slot.rounded = true;
    return &slot.tokens;
  }
  return nullptr;
}

}  // namespace sae::train
