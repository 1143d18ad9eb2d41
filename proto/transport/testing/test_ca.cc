#include "proto/transport/testing/test_ca.h"

#include <cstdlib>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "sae/base/clock.h"
#include "sae/base/hash.h"

namespace sae::testing {
namespace {

using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

/// Tests cannot go on without.
template <typename T>
T* Need(T* made) {
  if (made == nullptr) std::abort();
  return made;
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}
std::string ToPem(X509* x509) {
  BIO* bio = Need(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio, x509);
  return TextOf(bio);
}
std::string ToPem(EVP_PKEY* key) {
  BIO* bio = Need(BIO_new(BIO_s_mem()));
  PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  return TextOf(bio);
}

void AddExtension(X509* x509, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, x509, nullptr, nullptr, 0);
  X509_EXTENSION* extension = Need(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  X509_add_ext(x509, extension, -1);
  X509_EXTENSION_free(extension);
}

X509Ptr Blank(EVP_PKEY* key, long serial, const std::string& name, const IssueOptions& options) {
  X509Ptr x509(Need(X509_new()), X509_free);
  X509_set_version(x509.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509.get()), serial);
  const std::time_t now = absl::ToTimeT(RealClock().Now());
  X509_time_adj_ex(X509_getm_notBefore(x509.get()), 0, absl::ToInt64Seconds(options.valid_from),
                   const_cast<std::time_t*>(&now));
  X509_time_adj_ex(X509_getm_notAfter(x509.get()), 0, absl::ToInt64Seconds(options.valid_until),
                   const_cast<std::time_t*>(&now));
  X509_set_pubkey(x509.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return x509;
}

}  // namespace

struct TestCa::Impl {
  KeyPtr key{Need(EVP_EC_gen("P-256")), EVP_PKEY_free};
  X509Ptr x509{nullptr, X509_free};
  long serial = 1;
};

TestCa::TestCa() : impl_(std::make_unique<Impl>()) {
  IssueOptions options;
  options.valid_until = absl::Hours(24);
  // Two of one name could not both be believed: they are told apart by it.
  impl_->x509 = Blank(impl_->key.get(), impl_->serial++,
                      "test CA " + HashToText(Xxh3(ToPem(impl_->key.get()))), options);
  X509* x509 = impl_->x509.get();
  X509_set_issuer_name(x509, X509_get_subject_name(x509));
  AddExtension(x509, x509, NID_basic_constraints, "critical,CA:TRUE");
  AddExtension(x509, x509, NID_key_usage, "critical,keyCertSign,cRLSign");
  X509_sign(x509, impl_->key.get(), EVP_sha256());
  pem_ = ToPem(x509);
}

TestCa::~TestCa() = default;

Issued TestCa::Issue(const IssueOptions& options) {
  const KeyPtr key(Need(EVP_EC_gen("P-256")), EVP_PKEY_free);
  const X509Ptr x509 = Blank(key.get(), impl_->serial++, "test", options);
  X509_set_issuer_name(x509.get(), X509_get_subject_name(impl_->x509.get()));
  std::string names;
  const auto add = [&names](const char* kind, const std::string& value) {
    names += (names.empty() ? "" : ",") + std::string(kind) + ":" + value;
  };
  for (const std::string& dns : options.dns) add("DNS", dns);
  for (const std::string& address : options.addresses) add("IP", address);
  for (const std::string& uri : options.uris) add("URI", uri);
  if (!names.empty()) AddExtension(x509.get(), impl_->x509.get(), NID_subject_alt_name, names);
  AddExtension(x509.get(), impl_->x509.get(), NID_ext_key_usage, "serverAuth,clientAuth");
  X509_sign(x509.get(), impl_->key.get(), EVP_sha256());
  return {ToPem(x509.get()), ToPem(key.get())};
}

Issued TestCa::IssueWorker(const std::string& name) {
  IssueOptions options;
  options.uris = {WorkerUri({"saeloom", name})};
  return Issue(options);
}

TlsFiles TestCa::Write(const std::string& directory, const Issued& issued) {
  const TlsFiles files = TlsFilesIn(directory);
  const std::pair<std::string, std::string> all[] = {
      {files.cert, issued.cert}, {files.key, issued.key}, {files.ca, pem_}};
  if (!RealEnv().MakeDirectories(directory).ok()) std::abort();
  for (const auto& [path, pem] : all) {
    if (!WriteFileAtomically(RealEnv(), path, pem).ok()) std::abort();
  }
  return files;
}

}  // namespace sae::testing
