#include "sae/lm/micro_batch.h"

#include <algorithm>

namespace sae::lm {

std::vector<MicroBatch> CutMicroBatches(const TokenBatch& batch, std::int64_t target) {
  std::vector<MicroBatch> out;
  for (std::int64_t i = 0; i < batch.spans(); ++i) {
    const std::int64_t begin = batch.span_begins[static_cast<std::size_t>(i)];
    const std::int64_t length = batch.span_end(i) - begin;
    if (out.empty() || out.back().tokens() + length > target) out.push_back({begin, {0}});
    out.back().begins.push_back(out.back().tokens() + length);
  }
  std::stable_sort(out.begin(), out.end(), [](const MicroBatch& a, const MicroBatch& b) {
    return a.tokens() > b.tokens();
  });
  return out;
}

}  // namespace sae::lm
