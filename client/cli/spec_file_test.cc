#include "client/cli/spec_file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/address.h"
#include "client/cli/testing/world.h"
#include "sae/base/hash.h"

namespace sae::cli {
namespace {
using ::testing::HasSubstr;
using testing::TestWorld;

constexpr char kSweep[] =
    "apiVersion: saeloom/v1\nname: demo\nstore: runs/../store/\ntrial: {sae: {latents: 64, k: 4}, "
    "train: {tokens: 1e4}}\n";

TEST(LoadSpec, MakesTheStoreAbsoluteAndReadsItsManifest) {
  TestWorld t;
  t.Write("s.yaml", kSweep);
  auto spec = LoadSpec("s.yaml", t.world);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->store, t.directory + "/store");
  EXPECT_EQ(ReadStoreManifest(*spec, t.world).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(ReadStoreManifest(*spec, t.world)), HasSubstr("saeloom harvest --out DIR"));
  const std::string manifest = R"({"format_version": 1, "d": 576, "rows": 10})";
  t.Write("store/manifest.json", manifest);
  ASSERT_TRUE(ReadStoreManifest(*spec, t.world).ok());
  EXPECT_EQ(spec->store_d, 576);
  EXPECT_EQ(spec->store_hash, HashToText(Xxh3(manifest)));
  EXPECT_EQ(spec->store_target_d, 0);
  t.Write("store/manifest.json", R"({"d": 576, "target_d": 320})");
  ASSERT_TRUE(ReadStoreManifest(*spec, t.world).ok());
  EXPECT_EQ(spec->store_target_d, 320);
  t.Write("store/manifest.json", "{");
  EXPECT_EQ(ReadStoreManifest(*spec, t.world).code(), absl::StatusCode::kDataLoss);
}

TEST(LoadSpec, MissingFileAndBadKeysNameTheFile) {
  TestWorld t;
  EXPECT_EQ(LoadSpec("none.yaml", t.world).status().code(), absl::StatusCode::kNotFound);
  t.Write("s.yaml", std::string(kSweep) + "objektive: {}\n");
  EXPECT_EQ(Message(LoadSpec("s.yaml", t.world).status()),
            "s.yaml: unknown key objektive, did you mean objective?");
}

TEST(FindAddress, FlagThenVariableThenFileInAParent) {
  TestWorld t;
  EXPECT_EQ(FindAddress("", t.world).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(FindAddress("", t.world).status()), HasSubstr("saeloom up"));
  t.Write(".saeloom/address", "127.0.0.1:7001\n");
  t.world.directory = t.directory + "/a/b";
  EXPECT_EQ(FindAddress("", t.world)->target, "127.0.0.1:7001");
  EXPECT_EQ(FindAddress("", t.world)->origin, t.directory + "/.saeloom/address");
  t.variables["SAELOOM_ADDR"] = "host:7002";
  EXPECT_EQ(FindAddress("", t.world)->target, "host:7002");
  EXPECT_EQ(FindAddress("other:7003", t.world)->target, "other:7003");
  for (const char* bad : {"host", "host:", ":7", "host:0", "host:70000", "host:x"}) {
    EXPECT_EQ(FindAddress(bad, t.world).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace sae::cli
