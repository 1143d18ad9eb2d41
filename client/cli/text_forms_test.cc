// Small pure parts: YAML, tar, names, errors, paint.

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/error_report.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/private_file.h"
#include "client/cli/tar.h"
#include "client/cli/testing/world.h"
#include "client/cli/yaml_text.h"
#include "sae/base/process.h"
#include "sae/config/yaml.h"

namespace sae::cli {
namespace {
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::Pair;

TEST(YamlFromJson, ReadsBackAsTheSameValue) {
  for (
      const char* text :
      {R"({"a": 1, "b": [1, 2.5, "x"], "c": {"d": null, "e": true}, "f": [], "g": {}})",
       R"([{"a": [[1, 2], [3]], "b": {"c": [{"d": 1}]}}, "x"])",
       R"({"k": "true", "l": "1e3", "m": "a: b", "n": "", "o": "- x", "p": "2026-01-31", "q": "é\n\"", "yes": "~"})",
       R"({"path": "/runs/demo/0003", "word": "heldout.fvu", "ratio": 1e-7, "big": 9007199254740993})",
       "[]", "{}", "3"}) {
    const std::string yaml = YamlFromJson(text);
    const auto back = config::YamlToJson(yaml, "test");
    ASSERT_TRUE(back.ok()) << back.status() << "\n" << yaml;
    EXPECT_EQ(json::parse(*back), json::parse(text)) << yaml;
  }
  EXPECT_EQ(YamlFromJson(R"([{"name": "demo", "n": [1, 2]}])"),
            "- name: demo\n  \"n\":\n    - 1\n    - 2\n");
}

TEST(TarOf, IsReadByTar) {
  testing::TestWorld t;
  const auto tar = TarOf({{"a.txt", "hello\n"}, {"d/b.json", std::string(513, 'x')}, {"empty", ""}},
                         1'700'000'000);
  ASSERT_TRUE(tar.ok());
  EXPECT_EQ(tar->size() % 512, 0U);
  const std::string path = t.Write("x.tar", *tar);
  const auto program = FindInPath("", "", "tar", "/usr/bin:/bin");
  ASSERT_TRUE(program.ok()) << program.status();
  const auto list = RunProcess({.argv = {*program, "-tf", path}}, absl::Seconds(30));
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->exit.ShellCode(), 0);
  EXPECT_EQ(list->output, "a.txt\nd/b.json\nempty\n");
  const auto content = RunProcess({.argv = {*program, "-xOf", path, "a.txt"}}, absl::Seconds(30));
  EXPECT_EQ(content->output, "hello\n");
  EXPECT_FALSE(TarOf({{std::string(101, 'a'), ""}}, 0).ok());
  EXPECT_FALSE(TarOf({{"/abs", ""}}, 0).ok());
}

TEST(Names, ShortAndLongForms) {
  EXPECT_EQ(ShortName("projects/default/sweeps/demo/trials/0003/checkpoints/step-1"),
            "demo/0003/step-1");
  EXPECT_EQ(ShortName("demo"), "demo");
  EXPECT_EQ(*TrialResource("demo/0003"), "projects/default/sweeps/demo/trials/0003");
  EXPECT_EQ(*CheckpointResource("demo/0003/step-1"),
            "projects/default/sweeps/demo/trials/0003/checkpoints/step-1");
  for (const char* bad : {"demo", "demo/", "/0003", "a/b/c", ""})
    EXPECT_FALSE(TrialResource(bad).ok()) << bad;
  EXPECT_FALSE(CheckpointResource("demo/0003").ok());
  EXPECT_THAT(*ParsePairs({"a=1", "b="}, "--label"), ElementsAre(Pair("a", "1"), Pair("b", "")));
  EXPECT_EQ(Message(ParsePairs({"a"}, "--label").status()), "--label: 'a' is not KEY=VALUE");
  EXPECT_EQ(Message(ParsePairs({"a=1", "a=2"}, "--label").status()), "--label: a is given twice");
}

TEST(PrivateFile, IsForItsOwnerAloneAndReplacesTheOldOneWhole) {
  testing::TestWorld t;
  const std::string path = t.directory + "/new/folder/secret";
  ASSERT_TRUE(WritePrivateFile(path, "one").ok());
  ASSERT_TRUE(WritePrivateFile(path, "two").ok());
  EXPECT_EQ(RealEnv().Read(path).value(), "two");
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat((t.directory + "/new").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700U);
  EXPECT_THAT(RealEnv().List(t.directory + "/new/folder").value(), ElementsAre("secret"));
  EXPECT_FALSE(WritePrivateFile(path + "/below", "x").ok());
}

TEST(WriteError, ShowsReasonFieldsAndHint) {
  std::ostringstream err;
  absl::Status sent = WithReason(
      absl::InvalidArgumentError("spec.priority: 101 is more than 100; spec.queue: no queue q"),
      "BAD_UPDATE");
  absl::Status status = absl::InvalidArgumentError("bad update");
  AttachDetails(status, ErrorDetailsOf(sent));
  AttachHint(status, "read it again");
  WriteError(status, 2, false, err);
  EXPECT_EQ(err.str(),
            "error: bad update\nreason: BAD_UPDATE\nfield: spec.priority: 101 is more than 100\n"
            "field: spec.queue: no queue q\nhint: read it again\n");
  err.str("");
  WriteError(status, 2, true, err);
  const json e = json::parse(err.str())["error"];
  EXPECT_EQ(e["code"], "INVALID_ARGUMENT");
  EXPECT_EQ(e["message"], "bad update");
  EXPECT_EQ(e["exit_code"], 2);
  EXPECT_EQ(e["reason"], "BAD_UPDATE");
  EXPECT_EQ(e["fields"][1]["field"], "spec.queue");
  EXPECT_EQ(e["hint"], "read it again");
  EXPECT_EQ(err.str().find('\n'), err.str().size() - 1);
}

TEST(WriteError, SaysNothingTwice) {
  absl::Status status = absl::InvalidArgumentError("spec.queue: no queue q");
  AttachDetails(status, ErrorDetailsOf(status));
  std::ostringstream err;
  WriteError(status, 2, false, err);
  EXPECT_EQ(err.str(), "error: spec.queue: no queue q\n");
}

TEST(WriteError, UnreadableDetailsAreLeftOut) {
  absl::Status status = absl::NotFoundError("no sweep demo");
  AttachDetails(status, "\xff\xff nonsense");
  std::ostringstream err;
  WriteError(status, 3, false, err);
  EXPECT_EQ(err.str(), "error: no sweep demo\n");
}

TEST(Paint, ColoursWholeWordsAlone) {
  EXPECT_EQ(Paint("demo  FAILED  2/8"), "demo  \x1b[31mFAILED\x1b[0m  2/8");
  EXPECT_EQ(Paint("FAILED_TOO xFAILED"), "FAILED_TOO xFAILED");
}

}  // namespace
}  // namespace sae::cli
