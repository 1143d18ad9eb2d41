#include "client/cli/completion.h"

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/testing/cli_fixture.h"
#include "client/cli/tree.h"
#include "sae/base/process.h"

namespace sae::cli {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CompletionTest : public testing::CliFixture {
 protected:
  /// What bash offers after these words; `saeloom` itself is a function that prints `dynamic`.
  std::vector<std::string> Bash(const std::string& words, const std::string& dynamic = "") {
    EXPECT_EQ(Run({"completion", "bash"}), 0) << err();
    const std::string script =
        t_.Write("c.sh", out() + "\nsaeloom() { echo \"$*\" > " + t_.directory +
                             "/asked; printf '%s\\n' " + dynamic + "; }\nCOMP_WORDS=(" + words +
                             ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_saeloom\n"
                             "printf '%s\\n' \"${COMPREPLY[@]}\"\n");
    const auto run = RunProcess({.argv = {"/bin/bash", script}}, absl::Seconds(30));
    EXPECT_TRUE(run.ok()) << run.status();
    if (!run.ok()) return {};
    EXPECT_EQ(run->exit.ShellCode(), 0);
    return absl::StrSplit(run->output, '\n', absl::SkipEmpty());
  }
  std::string AskedOfProgram() { return RealEnv().Read(t_.directory + "/asked").value_or(""); }
};

TEST_F(CompletionTest, BashCompletesNounsVerbsFlagsAndNames) {
  EXPECT_THAT(Bash("saeloom 'swe'"), ElementsAre("sweep"));
  EXPECT_THAT(Bash("saeloom sweep 'p'"), ElementsAre("pause", "pareto"));
  EXPECT_THAT(Bash("saeloom node 'un'"), ElementsAre("uncordon"));
  EXPECT_THAT(Bash("saeloom sweep list '--fi'"), ElementsAre("--filter"));
  EXPECT_THAT(Bash("saeloom sweep pause '--fi'"), ElementsAre());
  EXPECT_THAT(Bash("saeloom completion 'z'"), ElementsAre("zsh"));
  EXPECT_THAT(Bash("saeloom -o json sweep get 'de'", "demo other"), ElementsAre("demo"));
  EXPECT_EQ(AskedOfProgram(), "__complete sweep de\n");
  EXPECT_THAT(Bash("saeloom trial stop 'demo/'", "demo/0000 demo/0001"),
              ElementsAre("demo/0000", "demo/0001"));
  EXPECT_EQ(AskedOfProgram(), "__complete trial demo/\n");
}

TEST_F(CompletionTest, EveryVerbOfTheTreeIsInEachScript) {
  Session session(t_.world);
  const auto tree = BuildTree(session);
  const std::string bash = CompletionScript(*tree, "bash");
  const std::string zsh = CompletionScript(*tree, "zsh");
  const std::string fish = CompletionScript(*tree, "fish");
  for (const Leaf& leaf : Leaves(*tree)) {
    const std::string path = absl::StrJoin(leaf.words, " ");
    EXPECT_THAT(bash, HasSubstr("'" + path + "') flags='"));
    EXPECT_THAT(zsh, HasSubstr("'" + path + "') flags='"));
    EXPECT_THAT(fish, HasSubstr("-a " + leaf.words.back() + " -d '")) << path;
  }
  for (const std::string& script : {bash, zsh, fish}) {
    EXPECT_THAT(script, HasSubstr("harvest"));
    EXPECT_THAT(script, HasSubstr("__complete"));
    for (const char* mark : {"@PATHS@", "@CASES@", "@TOP@", "@FLAGS@", "@DESCRIBED@"})
      EXPECT_THAT(script, Not(HasSubstr(mark)));
  }
}

TEST_F(CompletionTest, NamesComeFromTheCoordinator) {
  auto& other = service_.others.emplace_back();
  other.set_name(SweepName("other"));
  ASSERT_EQ(Run({"__complete", "sweep", ""}), 0);
  EXPECT_EQ(out(), "demo\nother\n");
  ASSERT_EQ(Run({"__complete", "sweep", "o"}), 0);
  EXPECT_EQ(out(), "other\n");
  ASSERT_EQ(Run({"__complete", "trial", "d"}), 0);
  EXPECT_EQ(out(), "demo/\n");
  ASSERT_EQ(Run({"__complete", "trial", "demo/"}), 0);
  EXPECT_EQ(out(), "demo/0000\ndemo/0001\n");
  service_.workers.add_workers()->set_id("worker-0");
  ASSERT_EQ(Run({"__complete", "worker"}), 0);
  EXPECT_EQ(out(), "worker-0\n");
  service_.queues.add_queues()->set_name("research");
  ASSERT_EQ(Run({"__complete", "queue", "re"}), 0);
  EXPECT_EQ(out(), "research\n");
  service_.checkpoints.emplace_back().set_resource(TrialName("demo", "0000") +
                                                   "/checkpoints/step-1");
  ASSERT_EQ(Run({"__complete", "checkpoint", "demo/0000/"}), 0);
  EXPECT_EQ(out(), "demo/0000/step-1\n");
}

TEST_F(CompletionTest, WithoutACoordinatorThereIsNothingAndNoError) {
  {
    testing::FakeService gone;
    t_.variables["SAELOOM_ADDR"] = gone.address();
  }
  EXPECT_EQ(Run({"__complete", "sweep", ""}), 0);
  EXPECT_EQ(out(), "");
  EXPECT_EQ(err(), "");
}

}  // namespace
}  // namespace sae::cli
