#include "sae/config/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::config {
namespace {
using ::testing::HasSubstr;

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
  // yaml-cpp finds documents without end in this one.
  EXPECT_THAT(Error("&1, '\":' c\\u00e9\"}]\nu00e9\"}]\n---\n...\n"), HasSubstr("f.yaml"));
  EXPECT_THAT(Error("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
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

}  // namespace
}  // namespace sae::config
