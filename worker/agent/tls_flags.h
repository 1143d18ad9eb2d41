#pragma once
// The worker's flags of who it is, and whom it believes: one certificate for the coordinator and
// for its peers. One thread.

#include <functional>
#include <string>

#include "proto/transport/credentials.h"

namespace CLI {
class App;
}

namespace saeloom::agent {

struct TlsFlags {
  std::string dir;
  sae::ClientCredentialOptions credentials;
  std::string trust_domain = "saeloom";
};

void AddTlsFlags(CLI::App& app, TlsFlags& flags);
/// Takes what flags leave from the environment, and checks the files. INVALID_ARGUMENT for what
/// does not go together.
[[nodiscard]] absl::Status CompleteTlsFlags(
    const std::function<std::string(const std::string&)>& variable, absl::Time now,
    TlsFlags& flags);
/// The worker's name: `name` when it is given; else that of the certificate; "" when there is
/// none. INVALID_ARGUMENT when they differ: the coordinator would refuse it.
[[nodiscard]] absl::StatusOr<std::string> NameOfWorker(const std::string& name,
                                                       const TlsFlags& flags);

}  // namespace saeloom::agent
