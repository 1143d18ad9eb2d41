#include "proto/transport/certificate.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "absl/strings/match.h"

#include "sae/base/ids.h"

namespace sae {
namespace {

constexpr char kScheme[] = "spiffe://";
constexpr char kWorker[] = "/worker/";
constexpr std::size_t kIdSuffix = 6;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio OpenText(const std::string& text) {
  return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

absl::StatusOr<X509Ptr> ReadX509(const std::string& pem, const std::string& path) {
  const Bio bio = OpenText(pem);
  X509Ptr x509(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free);
  ERR_clear_error();
  if (x509 == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
  }
  return x509;
}

int NoPassword(char*, int, int, void*) { return 0; }

absl::StatusOr<KeyPtr> ReadKey(const std::string& pem, const std::string& path) {
  const Bio bio = OpenText(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr), EVP_PKEY_free);
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " holds no private key in PEM, or one with a password: give one without"));
  }
  return key;
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm tm{};
  if (ASN1_TIME_to_tm(time, &tm) != 1) return absl::InfinitePast();
  return absl::FromTM(tm, absl::UTCTimeZone());
}

CertificateInfo InfoOf(X509* x509) {
  CertificateInfo info;
  info.not_before = ToTime(X509_get0_notBefore(x509));
  info.not_after = ToTime(X509_get0_notAfter(x509));
  auto* names =
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x509, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_DNS && name->type != GEN_URI) continue;
    const ASN1_IA5STRING* text = name->d.ia5;
    std::string value(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                      static_cast<std::size_t>(ASN1_STRING_length(text)));
    (name->type == GEN_DNS ? info.dns_names : info.uris).push_back(std::move(value));
  }
  GENERAL_NAMES_free(names);
  return info;
}

std::string DateOf(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

absl::Status CheckPair(Env& env, const TlsFiles& files, absl::Time now) {
  if (files.cert.empty() != files.key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a certificate needs its private key and the other way round: ",
                     files.cert.empty() ? absl::StrCat("give the certificate of ", files.key)
                                        : absl::StrCat("give the key of ", files.cert)));
  }
  if (files.cert.empty()) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const std::string cert_pem, env.Read(files.cert));
  SAE_ASSIGN_OR_RETURN(const std::string key_pem, env.Read(files.key));
  SAE_ASSIGN_OR_RETURN(const X509Ptr x509, ReadX509(cert_pem, files.cert));
  SAE_ASSIGN_OR_RETURN(const KeyPtr key, ReadKey(key_pem, files.key));
  const bool match = X509_check_private_key(x509.get(), key.get()) == 1;
  ERR_clear_error();
  if (!match) {
    return absl::FailedPreconditionError(
        absl::StrCat(files.key, " is not the private key of ", files.cert));
  }
  const CertificateInfo info = InfoOf(x509.get());
  if (info.not_after < now) {
    return absl::FailedPreconditionError(absl::StrCat(
        files.cert, " has expired at ", DateOf(info.not_after), ": put a new one in its place"));
  }
  return absl::OkStatus();
}

}  // namespace

TlsFiles TlsFilesIn(const std::string& directory) {
  return {directory + "/cert.pem", directory + "/key.pem", directory + "/ca.pem"};
}

absl::StatusOr<CertificateInfo> ParseCertificate(const std::string& pem, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const X509Ptr x509, ReadX509(pem, path));
  return InfoOf(x509.get());
}

absl::Status CheckTlsFiles(Env& env, const TlsFiles& files, absl::Time now) {
  SAE_RETURN_IF_ERROR(CheckPair(env, files, now));
  if (files.ca.empty()) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const std::string pem, env.Read(files.ca));
  return ReadX509(pem, files.ca).status();
}

std::optional<WorkerIdentity> ParseWorkerUri(const std::string& uri) {
  if (!absl::StartsWith(uri, kScheme)) return std::nullopt;
  const std::string rest = uri.substr(sizeof kScheme - 1);
  const std::size_t path = rest.find('/');
  if (path == std::string::npos || path == 0) return std::nullopt;
  if (!absl::StartsWith(rest.substr(path), kWorker)) return std::nullopt;
  WorkerIdentity identity{rest.substr(0, path), rest.substr(path + sizeof kWorker - 1)};
  if (!ValidateName(identity.name, "worker").ok()) return std::nullopt;
  return identity;
}

std::string WorkerUri(const WorkerIdentity& identity) {
  return absl::StrCat(kScheme, identity.trust_domain, kWorker, identity.name);
}

bool MayUseWorkerId(const std::string& name, const std::string& worker_id) {
  if (name.empty()) return false;
  if (worker_id == name) return true;
  if (worker_id.size() != name.size() + 1 + kIdSuffix || !absl::StartsWith(worker_id, name) ||
      worker_id[name.size()] != '-')
    return false;
  return std::all_of(worker_id.end() - kIdSuffix, worker_id.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

}  // namespace sae
