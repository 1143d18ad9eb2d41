#pragma once
// Which coordinator, and with which credentials: a flag stands over --context, that over the
// environment, that over the context in use, that over .saeloom/address. A context's certificates
// and token go to its own server alone; certificates come from one of these places as a whole.
// Reads files. Errors: INVALID_ARGUMENT, NOT_FOUND (no such context), UNAVAILABLE when nothing
// names a coordinator; each says what to do.

#include <string>

#include "client/cli/address.h"
#include "client/cli/world.h"
#include "proto/transport/credentials.h"

namespace sae::cli {

struct ConnectionFlags {
  std::string server;
  std::string context;
  ClientCredentialOptions credentials;
};

struct Connection {
  Address address;
  std::string context;  ///< that it came from; "" = none
  ClientCredentialOptions credentials;
};

[[nodiscard]] absl::StatusOr<Connection> ResolveConnection(const ConnectionFlags& flags,
                                                           const World& world);

}  // namespace sae::cli
