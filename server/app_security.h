#pragma once
// The coordinator's flags of who may call, and what they come to. One thread.

#include <string>

#include "sae/base/status.h"
#include "server/service/server.h"
#include "server/store/event_store.h"

namespace CLI {
class App;
}

namespace sae::server {

struct SecurityFlags {
  std::string tls_dir;
  TlsFiles tls;
  std::string trust_domain = "saeloom";
  bool require_worker_identity = true;
  bool enable_reflection = false;
  std::size_t max_request_bytes = GateOptions().max_request_bytes;
  int max_streams_per_principal = GateOptions().max_streams_per_principal;
  std::int64_t keep_audit = GateOptions().audit.keep;
  std::string create_admin_token;
};

void AddSecurityFlags(CLI::App& app, SecurityFlags& flags);
[[nodiscard]] absl::Status ApplySecurityFlags(const SecurityFlags& flags, ServerOptions& options);

/// With TLS and no admin whose token is good: makes a token and says in which file of `data` it is.
[[nodiscard]] absl::Status EnsureAdminToken(Coordinator& coordinator, const std::string& data);
/// --create-admin-token: to `path`, and says so on standard output.
[[nodiscard]] absl::Status CreateAdminTokenOnly(EventStore& store, const std::string& path,
                                                absl::Time now);

}  // namespace sae::server
