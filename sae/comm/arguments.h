#pragma once
// Checks of arguments that Communicator makes for every backend. Pure functions.

#include <cstdint>
#include <span>

#include "sae/base/status.h"

namespace sae::comm {

/// INVALID_ARGUMENT for a negative count, or a null buffer where the count is not 0.
[[nodiscard]] absl::Status CheckBuffer(const char* operation, const void* buffer,
                                       std::int64_t count);
/// INVALID_ARGUMENT unless there is one count a rank, none negative.
[[nodiscard]] absl::Status CheckCounts(const char* operation, std::span<const std::int64_t> counts,
                                       int size);
[[nodiscard]] absl::Status CheckRoot(int root, int size);
[[nodiscard]] absl::Status CheckColor(int color);

}  // namespace sae::comm
