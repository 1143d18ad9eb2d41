#include "worker/agent/tls_flags.h"

#include <CLI/CLI.hpp>

namespace saeloom::agent {

void AddTlsFlags(CLI::App& app, TlsFlags& flags) {
  sae::ClientCredentialOptions& c = flags.credentials;
  app.add_option("--tls-dir", flags.dir,
                 "folder with cert.pem, key.pem and ca.pem (tools/make_certs.sh): shown to the "
                 "coordinator and to peers, whose certificates that CA has signed; also "
                 "$SAELOOM_TLS_DIR");
  app.add_option("--tls-cert", c.tls.cert,
                 "the same as three flags: certificate, PEM, that names "
                 "spiffe://TRUST/worker/NAME; also $SAELOOM_CERT");
  app.add_option("--tls-key", c.tls.key, "its private key, PEM; also $SAELOOM_KEY");
  app.add_option("--tls-ca", c.tls.ca, "CAs that are believed, PEM; also $SAELOOM_CA");
  app.add_option("--token-file", c.token_file,
                 "an operator's token, where the coordinator has --no-require-worker-identity");
  app.add_option("--trust-domain", flags.trust_domain, "of workers' certificates")
      ->capture_default_str();
}

absl::Status CompleteTlsFlags(const std::function<std::string(const std::string&)>& variable,
                              absl::Time now, TlsFlags& flags) {
  if (!flags.dir.empty()) {
    if (!flags.credentials.tls.empty()) {
      return absl::InvalidArgumentError(
          "--tls-dir and --tls-cert, --tls-key, --tls-ca say the same: give one or the others");
    }
    flags.credentials.tls = sae::TlsFilesIn(flags.dir);
  }
  FillFromEnvironment(variable, flags.credentials);
  return CheckTlsFiles(sae::RealEnv(), flags.credentials.tls, now);
}

absl::StatusOr<std::string> NameOfWorker(const std::string& name, const TlsFlags& flags) {
  const std::string& path = flags.credentials.tls.cert;
  if (path.empty()) return name;
  SAE_ASSIGN_OR_RETURN(const std::string pem, sae::RealEnv().Read(path));
  SAE_ASSIGN_OR_RETURN(const sae::CertificateInfo info, sae::ParseCertificate(pem, path));
  for (const std::string& uri : info.uris) {
    const auto worker = sae::ParseWorkerUri(uri);
    if (!worker || worker->trust_domain != flags.trust_domain) continue;
    if (name.empty() || name == worker->name) return worker->name;
    return absl::InvalidArgumentError(absl::StrCat(
        "--name ", name, ": ", path, " is for worker ", worker->name,
        ", and the coordinator would refuse another; leave --name out, or give its certificate"));
  }
  // A coordinator with --no-require-worker-identity takes a token in its place.
  if (!flags.credentials.token_file.empty()) return name;
  return absl::InvalidArgumentError(
      absl::StrCat(path, " names no worker: it needs the URI spiffe://", flags.trust_domain,
                   "/worker/NAME among its alternative names, as tools/make_certs.sh makes it"));
}

}  // namespace saeloom::agent
