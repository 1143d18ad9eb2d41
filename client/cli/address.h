#pragma once
// Where the coordinator is: --server, then $SAELOOM_ADDR, then the file .saeloom/address in this
// folder or in a parent. Pure but for reading files.

#include <string>

#include "client/cli/world.h"
#include "sae/base/status.h"

namespace sae::cli {

struct Address {
  std::string target;  ///< host:port
  std::string origin;  ///< for messages: "--server", "$SAELOOM_ADDR", a file
};

/// UNAVAILABLE, with the remedy, when nothing names one; INVALID_ARGUMENT when it is not HOST:PORT.
[[nodiscard]] absl::StatusOr<Address> FindAddress(const std::string& flag, const World& world);

}  // namespace sae::cli
