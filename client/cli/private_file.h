#pragma once
// Files that only their owner may read: contexts, secrets of tokens. POSIX alone. Errors: as of
// Env, naming the path.

#include <string>

#include "sae/base/status.h"

namespace sae::cli {

/// As a whole, with mode 0600: a temporary beside it, fsync, rename. Makes missing folders with
/// mode 0700.
[[nodiscard]] absl::Status WritePrivateFile(const std::string& path, const std::string& content);

}  // namespace sae::cli
