#pragma once
// Certificates as PEM files, looked at before gRPC uses them: gRPC itself says nothing of a missing
// file or of a key that belongs to another certificate, its handshakes only fail. And the identity
// that a worker's certificate carries. Pure but for reading files. Errors name the file:
// INVALID_ARGUMENT (no PEM in it, or half a pair), FAILED_PRECONDITION (key and certificate do not
// belong together, or it has expired), and those of reading.

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/env.h"
#include "sae/base/status.h"

namespace sae {

/// A certificate (and what signed it), its private key, and the CAs that are believed: PEM files.
/// They are read again when they change.
struct TlsFiles {
  std::string cert;
  std::string key;
  std::string ca;
  unsigned refresh_seconds = 5;  ///< how often they are looked at; at least 1
  bool empty() const { return cert.empty() && key.empty() && ca.empty(); }
};
/// cert.pem, key.pem and ca.pem of a folder, as tools/make_certs.sh writes them.
TlsFiles TlsFilesIn(const std::string& directory);

struct CertificateInfo {
  std::vector<std::string> dns_names;
  std::vector<std::string> uris;
  absl::Time not_before;
  absl::Time not_after;
};
/// The first certificate of `pem`; `path` is for messages.
[[nodiscard]] absl::StatusOr<CertificateInfo> ParseCertificate(const std::string& pem,
                                                               const std::string& path);

/// Reads what is named and checks it; nothing named is OK. `now` decides what has expired.
[[nodiscard]] absl::Status CheckTlsFiles(Env& env, const TlsFiles& files, absl::Time now);

/// spiffe://TRUST/worker/NAME.
struct WorkerIdentity {
  std::string trust_domain;
  std::string name;
};
/// nullopt unless `uri` is one, its name one that ValidateName takes.
std::optional<WorkerIdentity> ParseWorkerUri(const std::string& uri);
std::string WorkerUri(const WorkerIdentity& identity);
/// Whether a worker with a certificate for `name` may call itself `worker_id`: the name, or the
/// name and the six characters that its runs folder has added.
bool MayUseWorkerId(const std::string& name, const std::string& worker_id);

}  // namespace sae
