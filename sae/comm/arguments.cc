#include "sae/comm/arguments.h"

namespace sae::comm {

absl::Status CheckBuffer(const char* operation, const void* buffer, std::int64_t count) {
  if (count < 0)
    return absl::InvalidArgumentError(absl::StrCat(operation, ": count ", count, " is negative"));
  if (count > 0 && buffer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(operation, ": null buffer for ", count, " elements"));
  }
  return absl::OkStatus();
}

absl::Status CheckCounts(const char* operation, std::span<const std::int64_t> counts, int size) {
  if (static_cast<int>(counts.size()) != size) {
    return absl::InvalidArgumentError(
        absl::StrCat(operation, ": ", counts.size(), " counts for ", size, " ranks"));
  }
  for (std::size_t r = 0; r < counts.size(); ++r) {
    if (counts[r] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(operation, ": count ", counts[r], " of rank ", r, " is negative"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRoot(int root, int size) {
  if (root >= 0 && root < size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("Broadcast: root ", root, " of ", size, " ranks"));
}

absl::Status CheckColor(int color) {
  if (color >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("Split: color ", color, " is negative"));
}

}  // namespace sae::comm
