#pragma once
// Runs a command on a peer through its PeerService, as ssh would.

#include <functional>
#include <string>

#include "absl/time/time.h"

#include "sae/base/clock.h"
#include "sae/base/status.h"
#include "worker/rsh/peers_file.h"

namespace saeloom::rsh {

struct ExecOptions {
  sae::Clock* clock = nullptr;
  std::function<void(const std::string&)> err;  ///< gets both streams: the guard joins them
};

/// The command's exit code, as a shell shows it. Blocks until it has ended. Errors: NOT_FOUND for a
/// host that is no peer; UNAVAILABLE, naming host and address, when it cannot be reached in time or
/// the connection is lost; PERMISSION_DENIED when it refuses the token.
[[nodiscard]] absl::StatusOr<int> Exec(const ExecOptions& options, const PeersFile& peers,
                                       const std::string& host, const std::string& command);

}  // namespace saeloom::rsh
