#pragma once
// A coordinator's address, and the one that `saeloom up` left in a file. Pure but for reading
// files. connection.h says which address counts. Errors: INVALID_ARGUMENT when it is not HOST:PORT,
// naming where it was said.

#include <string>

#include "client/cli/world.h"
#include "sae/base/status.h"

namespace sae::cli {

struct Address {
  std::string target;  ///< host:port
  std::string origin;  ///< for messages: "--server", "$SAELOOM_ADDR", a file
};

[[nodiscard]] absl::StatusOr<Address> CheckAddress(const std::string& text,
                                                   const std::string& origin);
/// From .saeloom/address in this folder or a parent. UNAVAILABLE, with the remedy, where there is
/// none.
[[nodiscard]] absl::StatusOr<Address> FindAddressFile(const World& world);

}  // namespace sae::cli
