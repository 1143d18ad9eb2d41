#include "proto/transport/credentials.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "sae/base/clock.h"

namespace sae {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

std::shared_ptr<FileWatcherCertificateProvider> Watch(const TlsFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(files.key, files.cert, files.ca,
                                                          std::max(1U, files.refresh_seconds));
}

/// Reads the file at every call, so that a new token needs no new connection.
class TokenFromFile final : public grpc::MetadataCredentialsPlugin {
 public:
  explicit TokenFromFile(std::string path) : path_(std::move(path)) {}
  bool IsBlocking() const override { return true; }
  const char* GetType() const override { return "saeloom-token"; }
  grpc::string DebugString() override { return "saeloom token of " + path_; }
  grpc::Status GetMetadata(grpc::string_ref, grpc::string_ref, const grpc::AuthContext&,
                           std::multimap<grpc::string, grpc::string>* metadata) override {
    const auto token = ReadToken(path_);
    if (!token.ok()) {
      return {static_cast<grpc::StatusCode>(token.status().code()), Message(token.status())};
    }
    metadata->emplace("authorization", "Bearer " + *token);
    return grpc::Status::OK;
  }

  static absl::StatusOr<std::string> ReadToken(const std::string& path) {
    SAE_ASSIGN_OR_RETURN(const std::string text, RealEnv().Read(path));
    std::string token(absl::StripAsciiWhitespace(text));
    const bool printable =
        std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (token.empty() || !printable) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " holds no token: it should be one line, saeloom_ID_SECRET"));
    }
    return token;
  }

 private:
  const std::string path_;
};

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsChannel(
    const ClientCredentialOptions& options) {
  SAE_RETURN_IF_ERROR(CheckTlsFiles(RealEnv(), options.tls, RealClock().Now()));
  grpc::experimental::TlsChannelCredentialsOptions tls;
  if (!options.tls.empty()) tls.set_certificate_provider(Watch(options.tls));
  if (!options.tls.ca.empty()) tls.watch_root_certs();
  if (!options.tls.cert.empty()) tls.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(tls);
}

}  // namespace

bool IsLoopbackTarget(const std::string& target) {
  const std::string host = target.substr(0, target.rfind(':'));
  return host == "localhost" || host == "[::1]" || absl::StartsWith(host, "127.");
}

void FillFromEnvironment(const std::function<std::string(const std::string&)>& variable,
                         ClientCredentialOptions& options) {
  const auto fill = [&](std::string& field, const char* name) {
    if (field.empty()) field = variable(name);
  };
  // A flag stands over the whole environment: half of one and half of the other would be neither.
  if (!options.UsesTls()) {
    if (const std::string directory = variable("SAELOOM_TLS_DIR"); !directory.empty()) {
      options.tls = TlsFilesIn(directory);
    } else {
      fill(options.tls.ca, "SAELOOM_CA");
      fill(options.tls.cert, "SAELOOM_CERT");
      fill(options.tls.key, "SAELOOM_KEY");
    }
  }
  fill(options.token_file, "SAELOOM_TOKEN_FILE");
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeClientCredentials(
    const ClientCredentialOptions& options, const std::string& target) {
  if (!options.UsesTls()) {
    if (!options.token_file.empty() && !IsLoopbackTarget(target)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--token-file ", options.token_file, ": a token is never sent without TLS, and ", target,
          " is not on this machine; give --ca, the file with the CA of the coordinator"));
    }
    return grpc::InsecureChannelCredentials();
  }
  SAE_ASSIGN_OR_RETURN(auto channel, TlsChannel(options));
  if (options.token_file.empty()) return channel;
  if (const absl::Status s = TokenFromFile::ReadToken(options.token_file).status(); !s.ok())
    return Annotate(s, "--token-file");
  auto both = grpc::CompositeChannelCredentials(
      channel,
      grpc::MetadataCredentialsFromPlugin(std::make_unique<TokenFromFile>(options.token_file)));
  if (both == nullptr) {
    return absl::InternalError("gRPC takes no token on a channel with these credentials");
  }
  return both;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, ClientCertificates how) {
  if (files.empty()) return grpc::InsecureServerCredentials();
  if (files.cert.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(files.ca, ": a server needs a certificate of its own and its key, too"));
  }
  if (files.ca.empty() && how == ClientCertificates::kRequired) {
    return absl::InvalidArgumentError(absl::StrCat(
        files.cert, ": clients must show certificates here; give the CA that signs them"));
  }
  SAE_RETURN_IF_ERROR(CheckTlsFiles(RealEnv(), files, RealClock().Now()));
  grpc::experimental::TlsServerCredentialsOptions tls(Watch(files));
  tls.watch_identity_key_cert_pairs();
  if (!files.ca.empty()) {
    tls.watch_root_certs();
    tls.set_cert_request_type(how == ClientCertificates::kRequired
                                  ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                  : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(tls);
}

std::optional<WorkerIdentity> WorkerOfPeer(const grpc::AuthContext& peer,
                                           const std::string& trust_domain) {
  // Only URIs: another kind of name could hold the same text.
  for (const grpc::string_ref& uri : peer.FindPropertyValues(GRPC_PEER_URI_PROPERTY_NAME)) {
    auto identity = ParseWorkerUri(std::string(uri.data(), uri.size()));
    if (identity && identity->trust_domain == trust_domain) return identity;
  }
  return std::nullopt;
}

std::string ConnectionAdvice(const ClientCredentialOptions& options, const std::string& message) {
  const std::string text = absl::AsciiStrToLower(message);
  const auto says = [&text](const char* word) { return absl::StrContains(text, word); };
  const bool cut = says("handshaker shutdown");  // by time, or by the other side
  const bool closed =
      cut || says("socket closed") || says("connection reset") || says("broken pipe");
  if (!options.UsesTls()) {
    return closed ? "it closed the connection at once; if it uses TLS, give the file with its CA "
                    "(--ca; of a worker --tls-ca)"
                  : "";
  }
  if (!options.tls.cert.empty() && closed) {
    return absl::StrCat(
        "it closed the connection, as one does that does not believe a certificate; "
        "check that ",
        options.tls.cert, " has not expired and is signed by a CA that the other side knows");
  }
  if (says("wrong version number")) {
    return "the other side speaks no TLS: leave the CA and the certificate out, or start it with "
           "--tls-dir";
  }
  if (cut) {
    return "the TLS handshake was cut off or did not end in time: the other side may be busy; try "
           "again";
  }
  if (closed || says("handshake") || says("ssl") || says("certificate") ||
      says("verification check")) {
    return absl::StrCat(
        "the TLS handshake failed; check that the CA file (",
        options.tls.ca.empty() ? "of the system" : options.tls.ca,
        ") has signed the other side's certificate, that this names the host you call, and that it "
        "has not expired");
  }
  return "";
}

}  // namespace sae
