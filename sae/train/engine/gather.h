#pragma once
// Communicator::AllGather for callers in a step: the counts are the caller's and keep their memory.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/comm/communicator.h"

namespace sae::train {

/// Equal parts: output.size() == communicator.size() * input.size().
template <class V>
[[nodiscard]] absl::Status GatherEqual(comm::Communicator& communicator, std::span<const V> input,
                                       std::span<V> output, std::vector<std::int64_t>* counts) {
  counts->assign(static_cast<std::size_t>(communicator.size()),
                 static_cast<std::int64_t>(input.size()));
  return communicator.AllGatherV(input.data(), output.data(), *counts, DTypeOf<V>());
}

}  // namespace sae::train
