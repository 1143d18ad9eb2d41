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

std::string Json(const std::string& yaml) { return YamlToJson(yaml, "f.yaml").value(); }
std::string Error(const std::string& yaml) { return Message(YamlToJson(yaml, "f.yaml").status()); }

TEST(YamlToJson, ScalarsKeepTheirTypes) {
  EXPECT_EQ(
      Json("a: 5e5\nb: 8\nc: '8'\nd: true\ne: ~\nf: topk\ng: .nan\nh: 1e999\ni: -3\nj: 0x10\nk: "
           "yes\nl: \"\""),
      R"({"a":500000.0,"b":8,"c":"8","d":true,"e":null,"f":"topk","g":".nan","h":"1e999","i":-3,"j":"0x10","k":"yes","l":""})");
  EXPECT_EQ(Json("b: 1\na: [1, {z: 2, y: [x]}]"), R"({"b":1,"a":[1,{"z":2,"y":["x"]}]})");
}

TEST(YamlToJson, ErrorsNameLineAndColumn) {
  EXPECT_THAT(Error("a: 1\nb: [1, 2\nc: 3\n"), HasSubstr("f.yaml:3:"));
  EXPECT_EQ(Error("a: 1\ntrial:\n  k: 1\n  k: 2\n"), "f.yaml:4:3: key k is there twice");
  EXPECT_THAT(Error("a: 1\n\tb: 2\n"), HasSubstr("f.yaml:2:"));
  EXPECT_THAT(Error("a: *nothing\n"), HasSubstr("f.yaml:1:"));
  EXPECT_THAT(Error(""), HasSubstr("f.yaml: is empty"));
  EXPECT_THAT(Error("a: 1\n---\nb: 2\n"), HasSubstr("has 2 documents"));
  EXPECT_THAT(Error("[1, 2]: 3\n"), HasSubstr("a key is not plain text"));
}

TEST(YamlToJson, NestingAndAliasesAreBounded) {
  EXPECT_THAT(Error(std::string(100, '[') + std::string(100, ']')), HasSubstr("nested too deeply"));
  std::string bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 8; ++i) {
    const std::string p = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + p + ", " + p + ", " + p +
            ", " + p + ", " + p + ", " + p + ", " + p + "]\n";
  }
  EXPECT_THAT(Error(bomb), HasSubstr("too large"));
}

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
