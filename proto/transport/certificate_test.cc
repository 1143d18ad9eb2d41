#include "proto/transport/certificate.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/transport/testing/test_ca.h"
#include "sae/base/clock.h"

namespace sae {
namespace {
using sae::testing::IssueOptions;
using sae::testing::TestCa;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CertificateTest : public ::testing::Test {
 protected:
  CertificateTest() {
    std::string path = ::testing::TempDir() + "/certificate_XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~CertificateTest() override { std::filesystem::remove_all(folder_); }
  static absl::Status Check(const TlsFiles& files) {
    return CheckTlsFiles(RealEnv(), files, RealClock().Now());
  }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(WriteFileAtomically(RealEnv(), path, text).ok());
    return path;
  }
  std::string folder_;
  TestCa ca_;
};

TEST_F(CertificateTest, NamesAndTimesAreRead) {
  IssueOptions options;
  options.dns = {"localhost", "head.example"};
  options.uris = {"spiffe://saeloom/worker/w"};
  const auto info = ParseCertificate(ca_.Issue(options).cert, "c.pem");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(info->dns_names, ElementsAre("localhost", "head.example"));
  EXPECT_THAT(info->uris, ElementsAre("spiffe://saeloom/worker/w"));
  EXPECT_EQ(info->not_after - info->not_before, absl::Minutes(61));
}

TEST_F(CertificateTest, GoodFilesAndNoFilesAreTaken) {
  const TlsFiles files = ca_.Write(folder_, ca_.Issue());
  EXPECT_TRUE(Check(files).ok());
  EXPECT_TRUE(Check({}).ok());
  EXPECT_TRUE(Check({"", "", files.ca}).ok());
}

TEST_F(CertificateTest, WhatIsWrongIsNamed) {
  const TlsFiles files = ca_.Write(folder_, ca_.Issue());
  const absl::Status missing = Check({folder_ + "/none.pem", files.key, ""});
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(Message(missing), HasSubstr("none.pem"));

  EXPECT_TRUE(absl::IsInvalidArgument(Check({files.cert, "", ""})));
  EXPECT_THAT(Message(Check({files.cert, "", ""})), HasSubstr("give the key of " + files.cert));
  EXPECT_THAT(Message(Check({"", files.key, ""})), HasSubstr("give the certificate of"));

  const std::string text = Write("text.pem", "no certificate\n");
  EXPECT_THAT(Message(Check({text, files.key, ""})), HasSubstr("holds no certificate"));
  EXPECT_THAT(Message(Check({files.cert, text, ""})), HasSubstr("holds no private key"));
  EXPECT_THAT(Message(Check({"", "", text})), HasSubstr("holds no certificate"));

  const std::string other = Write("other.pem", ca_.Issue().key);
  const absl::Status mismatch = Check({files.cert, other, ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(mismatch)) << mismatch;
  EXPECT_THAT(Message(mismatch), HasSubstr("is not the private key of"));

  IssueOptions old;
  old.valid_from = -absl::Hours(2);
  old.valid_until = -absl::Hours(1);
  const absl::Status expired = Check(ca_.Write(folder_ + "/old", ca_.Issue(old)));
  EXPECT_TRUE(absl::IsFailedPrecondition(expired)) << expired;
  EXPECT_THAT(Message(expired), HasSubstr("has expired at "));
}

TEST(WorkerUri, OnlyAWorkerOfATrustDomain) {
  const auto worker = ParseWorkerUri("spiffe://saeloom/worker/gpu-box-1");
  ASSERT_TRUE(worker.has_value());
  EXPECT_EQ(worker->trust_domain, "saeloom");
  EXPECT_EQ(worker->name, "gpu-box-1");
  EXPECT_EQ(WorkerUri(*worker), "spiffe://saeloom/worker/gpu-box-1");
  for (const char* bad :
       {"", "spiffe://", "spiffe:///worker/a", "spiffe://saeloom", "spiffe://saeloom/worker/",
        "spiffe://saeloom/worker/../a", "spiffe://saeloom/worker/a/b", "spiffe://saeloom/user/a",
        "https://saeloom/worker/a", "spiffe://saeloom/worker/A b"}) {
    EXPECT_FALSE(ParseWorkerUri(bad).has_value()) << bad;
  }
}

TEST(WorkerId, IsTheNameOrTheNameAndASuffix) {
  EXPECT_TRUE(MayUseWorkerId("gpu", "gpu"));
  EXPECT_TRUE(MayUseWorkerId("gpu", "gpu-7k2m9x"));
  for (const char* bad : {"", "gpu-", "gpu-7k2m9", "gpu-7k2m9xx", "gpu-7k2-9x", "gpu_7k2m9x",
                          "cpu-7k2m9x", "gpu-1-7k2m9x", "gpu-7K2M9X"}) {
    EXPECT_FALSE(MayUseWorkerId("gpu", bad)) << bad;
  }
  EXPECT_FALSE(MayUseWorkerId("", "-7k2m9x"));
}

}  // namespace
}  // namespace sae
