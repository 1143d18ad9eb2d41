#include "worker/agent/tls_flags.h"

#include <CLI/CLI.hpp>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proto/transport/testing/test_ca.h"
#include "sae/base/clock.h"

namespace saeloom::agent {
namespace {
using testing::HasSubstr;

class TlsFlagsTest : public testing::Test {
 protected:
  TlsFlagsTest() {
    std::string path = testing::TempDir() + "/tls_flags_XXXXXX";
    folder_ = ::mkdtemp(path.data());
    ca_.Write(folder_, ca_.IssueWorker("gpu-1"));
  }
  ~TlsFlagsTest() override { std::filesystem::remove_all(folder_); }
  /// What the flags come to.
  absl::Status Parse(const std::vector<std::string>& args) {
    flags_ = TlsFlags();
    CLI::App app;
    AddTlsFlags(app, flags_);
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
    return CompleteTlsFlags(
        [this](const std::string& name) {
          const auto it = environment_.find(name);
          return it == environment_.end() ? std::string() : it->second;
        },
        sae::RealClock().Now(), flags_);
  }
  std::string folder_;
  sae::testing::TestCa ca_;
  std::map<std::string, std::string> environment_;
  TlsFlags flags_;
};

TEST_F(TlsFlagsTest, AFolderIsThreeFiles) {
  ASSERT_TRUE(Parse({"--tls-dir", folder_}).ok());
  EXPECT_EQ(flags_.credentials.tls.key, folder_ + "/key.pem");
  ASSERT_TRUE(Parse({}).ok());
  EXPECT_TRUE(flags_.credentials.tls.empty());
  environment_["SAELOOM_TLS_DIR"] = folder_;
  ASSERT_TRUE(Parse({}).ok());
  EXPECT_EQ(flags_.credentials.tls.ca, folder_ + "/ca.pem");
}

TEST_F(TlsFlagsTest, WhatDoesNotGoTogetherIsRefusedAtTheStart) {
  EXPECT_TRUE(absl::IsInvalidArgument(Parse({"--tls-dir", folder_, "--tls-ca", "x.pem"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Parse({"--tls-cert", folder_ + "/cert.pem"})));
  EXPECT_TRUE(absl::IsNotFound(Parse({"--tls-dir", folder_ + "/none"})));
}

TEST_F(TlsFlagsTest, TheNameIsTheCertificates) {
  ASSERT_TRUE(Parse({"--tls-dir", folder_}).ok());
  EXPECT_EQ(NameOfWorker("", flags_).value(), "gpu-1");
  EXPECT_EQ(NameOfWorker("gpu-1", flags_).value(), "gpu-1");
  const absl::Status other = NameOfWorker("gpu-2", flags_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(other)) << other;
  EXPECT_THAT(sae::Message(other), HasSubstr("is for worker gpu-1"));
  ASSERT_TRUE(Parse({"--tls-dir", folder_, "--trust-domain", "elsewhere"}).ok());
  EXPECT_THAT(sae::Message(NameOfWorker("", flags_).status()),
              HasSubstr("needs the URI spiffe://elsewhere/worker/NAME"));
  EXPECT_EQ(NameOfWorker("w", TlsFlags()).value(), "w");
}

}  // namespace
}  // namespace saeloom::agent
