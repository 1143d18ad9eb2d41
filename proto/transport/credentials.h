#pragma once
// How a channel or a server shows who it is, and whom it believes: used by the coordinator, workers
// and the CLI. Certificates are looked at again every few seconds, so that they are renewed by
// putting new files in their place, without a restart. Thread-safe functions; what they return owns
// a thread that watches the files. Errors as proto/transport/certificate.h's.

#include <functional>
#include <memory>
#include <string>

#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include "proto/transport/certificate.h"

namespace sae {

struct ClientCredentialOptions {
  /// `ca` alone: TLS, and the server is believed when one of these CAs has signed its certificate.
  /// `cert` and `key` too: this side shows them, as workers do.
  TlsFiles tls;
  bool system_roots = false;  ///< TLS without `ca`: the CAs of this machine
  /// A file that holds a bearer token, read at every call. Never sent without TLS: then it is an
  /// error, but on loopback, where calls need none, it is left out.
  std::string token_file;

  bool UsesTls() const { return !tls.empty() || system_roots; }
};

/// What is still empty is taken from the environment: SAELOOM_TLS_DIR (cert.pem, key.pem, ca.pem),
/// then SAELOOM_CERT, SAELOOM_KEY, SAELOOM_CA and SAELOOM_TOKEN_FILE. `variable` gives "" for what
/// is not set.
void FillFromEnvironment(const std::function<std::string(const std::string&)>& variable,
                         ClientCredentialOptions& options);

/// Credentials for a channel to `target`, HOST:PORT.
[[nodiscard]] absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeClientCredentials(
    const ClientCredentialOptions& options, const std::string& target);

enum class ClientCertificates {
  kVerifiedIfGiven,  ///< people come with tokens, workers with certificates, to one port
  kRequired,
};
/// Credentials of a server; insecure when `files` is empty. `ca` signs the clients' certificates;
/// without it no client can have one.
[[nodiscard]] absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, ClientCertificates how);

/// The worker that the peer's certificate names in `trust_domain`; nullopt when there is no
/// certificate, or it names none.
std::optional<WorkerIdentity> WorkerOfPeer(const grpc::AuthContext& peer,
                                           const std::string& trust_domain);

/// What to check when a call to `target` was UNAVAILABLE with gRPC's `message`; "" when it does not
/// look like a matter of credentials.
std::string ConnectionAdvice(const ClientCredentialOptions& options, const std::string& message);

/// "localhost:7", "127.0.0.1:7", "[::1]:7".
bool IsLoopbackTarget(const std::string& target);

}  // namespace sae
