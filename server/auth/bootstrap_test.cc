#include "server/auth/bootstrap.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "server/auth/token_table.h"
#include "server/store/memory_store.h"

namespace sae::server {
namespace {
namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr auto kOwnerOnly = fs::perms::owner_read | fs::perms::owner_write;

class BootstrapTest : public ::testing::Test {
 protected:
  BootstrapTest() {
    std::string path = ::testing::TempDir() + "/bootstrap_XXXXXX";
    folder_ = ::mkdtemp(path.data());
    EXPECT_TRUE(store_.BeginEpoch().ok());
  }
  ~BootstrapTest() override { fs::remove_all(folder_); }
  absl::Status Create(bool replace) {
    return CreateAdminToken(store_, folder_ + "/token", replace, now_, MachineEntropy).status();
  }
  std::size_t Stored() { return store_.Tokens()->size(); }

  const absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  std::string folder_;
  MemoryStore store_{std::make_shared<MemoryStore::Disk>()};
};

TEST_F(BootstrapTest, TheTokenInTheFileIsAnAdminsAndItsOwnersAlone) {
  ASSERT_TRUE(Create(false).ok());
  EXPECT_EQ(fs::status(folder_ + "/token").permissions(), kOwnerOnly);
  std::string text = RealEnv().Read(folder_ + "/token").value();
  ASSERT_EQ(text.back(), '\n');
  text.pop_back();
  TokenTable table;
  table.Load(store_.Tokens().value());
  const auto who = table.Authenticate(text, now_ + absl::Hours(24 * 364));
  ASSERT_TRUE(who.ok()) << who.status();
  EXPECT_EQ(who->role, Role::kAdmin);
  EXPECT_FALSE(table.Authenticate(text, now_ + absl::Hours(24 * 366)).ok());
  const auto audit = store_.ReadAudit(0, 10).value();
  ASSERT_EQ(audit.size(), 1U);
  EXPECT_EQ(audit[0].method, "CreateToken");
  EXPECT_EQ(audit[0].principal, "(local)");
}

TEST_F(BootstrapTest, AFileThatIsThereIsReplacedOnlyWhenTold) {
  ASSERT_TRUE(Create(false).ok());
  const absl::Status again = Create(false);
  EXPECT_TRUE(absl::IsAlreadyExists(again)) << again;
  EXPECT_THAT(Message(again), HasSubstr(folder_ + "/token exists"));
  EXPECT_EQ(Stored(), 1U);
  EXPECT_TRUE(Create(true).ok());
  EXPECT_EQ(Stored(), 2U);
}

TEST_F(BootstrapTest, WhatCannotBeWrittenIsNotStored) {
  EXPECT_FALSE(CreateAdminToken(store_, folder_ + "/none/token", false, now_, MachineEntropy).ok());
  EXPECT_EQ(Stored(), 0U);
}

TEST_F(BootstrapTest, APrivateFileIsMadeOrMadePrivate) {
  const std::string path = folder_ + "/db";
  ASSERT_TRUE(MakePrivateFile(path).ok());
  EXPECT_EQ(fs::status(path).permissions(), kOwnerOnly);
  fs::permissions(path, fs::perms::owner_all | fs::perms::others_read);
  ASSERT_TRUE(MakePrivateFile(path).ok());
  EXPECT_EQ(fs::status(path).permissions(), kOwnerOnly);
  EXPECT_FALSE(MakePrivateFile(folder_ + "/none/db").ok());
}

}  // namespace
}  // namespace sae::server
