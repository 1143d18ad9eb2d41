#pragma once
// The first token of a coordinator, which nobody could ask it for.

#include <string>

#include "sae/base/status.h"
#include "server/auth/token.h"
#include "server/store/event_store.h"

namespace sae::server {

/// Makes a token for principal and role "admin", a year long, stores it and writes it to `path`, a
/// new file that its owner alone may read. The store has begun its epoch. ALREADY_EXISTS when the
/// file is there and `replace` is not said; then, and when it cannot be written, nothing is stored.
[[nodiscard]] absl::StatusOr<TokenRecord> CreateAdminToken(EventStore& store,
                                                           const std::string& path, bool replace,
                                                           absl::Time now, const Entropy& entropy);

/// A file that exists, perhaps empty, and that its owner alone may read and write.
[[nodiscard]] absl::Status MakePrivateFile(const std::string& path);

}  // namespace sae::server
