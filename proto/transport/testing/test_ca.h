#pragma once
// For tests: a certificate authority in memory, whose certificates live an hour unless told
// otherwise. Keys are P-256. Not thread-safe.

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "proto/transport/certificate.h"

namespace sae::testing {

struct IssueOptions {
  std::vector<std::string> dns = {"localhost"};
  std::vector<std::string> addresses = {"127.0.0.1"};
  std::vector<std::string> uris;
  absl::Duration valid_from = -absl::Minutes(1);  ///< from now
  absl::Duration valid_until = absl::Hours(1);
};

/// PEM.
struct Issued {
  std::string cert;
  std::string key;
};

class TestCa {
 public:
  TestCa();
  ~TestCa();

  const std::string& pem() const { return pem_; }
  Issued Issue(const IssueOptions& options = {});
  /// A worker's: spiffe://saeloom/worker/NAME.
  Issued IssueWorker(const std::string& name);
  /// Writes cert.pem, key.pem and ca.pem to `directory`, which is made.
  TlsFiles Write(const std::string& directory, const Issued& issued);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string pem_;
};

}  // namespace sae::testing
