#include "client/cli/spec_file.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sae::cli
