#pragma once
// A tar archive (POSIX ustar) of small files in memory: what `debug bundle` writes. Pure.

#include <cstdint>
#include <map>
#include <string>

#include "sae/base/status.h"

namespace sae::cli {

/// Names are relative paths of at most 100 bytes: INVALID_ARGUMENT otherwise. All files get
/// `seconds` as their time and mode 0600.
[[nodiscard]] absl::StatusOr<std::string> TarOf(const std::map<std::string, std::string>& files,
                                                std::int64_t seconds);

}  // namespace sae::cli
