#include "sae/base/env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace sae {
namespace {
using ::testing::HasSubstr;

std::string Scratch(const std::string& name) {
  const std::string path = ::testing::TempDir() + "/env_test_" + name;
  std::filesystem::remove_all(path);
  return path;
}

TEST(Env, WriteFileAtomicallyReplacesAndLeavesNoTemporary) {
  Env& env = RealEnv();
  const std::string dir = Scratch("atomic");
  ASSERT_TRUE(env.MakeDirectories(dir).ok());
  ASSERT_TRUE(WriteFileAtomically(env, dir + "/f", "one").ok());
  ASSERT_TRUE(WriteFileAtomically(env, dir + "/f", "two").ok());
  EXPECT_EQ(*env.Read(dir + "/f"), "two");
  EXPECT_THAT(*env.List(dir), ::testing::ElementsAre("f"));
}

TEST(Env, ErrorsNameThePath) {
  Env& env = RealEnv();
  const auto missing = env.Read("/nonexistent/file");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("/nonexistent/file"));
  EXPECT_EQ(WriteFileAtomically(env, "/nonexistent/file", "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(env.Read("/").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Env, AppendAddsToTheEnd) {
  Env& env = RealEnv();
  const std::string path = Scratch("append");
  for (const char* part : {"a", "bc"}) {
    auto file = env.OpenForAppend(path);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE((*file)->Append(std::string(part)).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  EXPECT_EQ(*env.Read(path), "abc");
}

TEST(Env, RequireFreeBytesNamesNeedAndHave) {
  EXPECT_TRUE(RequireFreeBytes(RealEnv(), ::testing::TempDir(), 1, "a test").ok());
  const absl::Status s = RequireFreeBytes(RealEnv(), ::testing::TempDir() + "/not/there/yet", std::int64_t{1} << 60, "a test");
  EXPECT_EQ(s.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(s), HasSubstr("a test needs 1099511627776 MiB"));
}

}  // namespace
}  // namespace sae
