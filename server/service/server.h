#pragma once
// The coordinator as a gRPC server: builds, binds, stops. Owns the hubs, the services and gRPC's
// server; borrows the coordinator, which outlives it. Errors: FAILED_PRECONDITION for an address in
// use, PERMISSION_DENIED for one beyond loopback that was not asked for in so many words, and those
// of proto/transport/credentials.h.

#include <memory>
#include <string>

#include "proto/transport/certificate.h"
#include "server/auth/token.h"
#include "server/service/hubs.h"

namespace sae::server {

struct ServerOptions {
  std::string listen = "127.0.0.1:0";  ///< host:port; port 0 = any free one
  bool insecure_bind_anywhere = false;
  absl::Duration watch_heartbeat = absl::Seconds(5);
  /// A reader that is this many points behind gets the newest ones in place of all.
  std::int64_t watch_most_lag = 10'000;
  TlsFiles tls;  ///< empty = none: everybody who reaches the port may do everything
  std::string trust_domain = "saeloom";  ///< of workers' certificates: spiffe://THIS/worker/NAME
  bool reflection = true;                ///< tells everybody what can be called
  GateOptions gate;                      ///< `tls` is set from the above
  Entropy entropy = MachineEntropy;      ///< of new tokens
};

/// PERMISSION_DENIED unless `address` is on loopback or `anywhere` was said (or calls there are
/// encrypted and authenticated); INVALID_ARGUMENT unless host:port.
[[nodiscard]] absl::Status CheckListenAddress(const std::string& address, bool anywhere,
                                              const std::string& flag);

class Server {
 public:
  /// `rpcs` may be null. It and `coordinator` outlive the server.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                                                     Coordinator& coordinator,
                                                                     RpcObserver* rpcs);
  ~Server();

  /// host:port with the port that was chosen.
  const std::string& address() const { return address_; }
  Hubs& hubs() { return hubs_; }
  Gate& gate() { return gate_; }
  /// Not serving, then streams end, then calls are waited for at most `grace`. Idempotent.
  void Stop(absl::Duration grace);

 private:
  Server(const ServerOptions& options, Coordinator& coordinator, RpcObserver* rpcs);

  RpcObserver silent_;
  Coordinator& coordinator_;
  Hubs hubs_;
  Gate gate_;
  ServiceContext context_;
  std::string address_;
  struct Rpc;  // gRPC's server and the services: its headers stay out of here
  std::unique_ptr<Rpc> rpc_;
};

}  // namespace sae::server
