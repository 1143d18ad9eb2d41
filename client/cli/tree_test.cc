// The tree of commands as a whole: every verb explains itself, every example is one that parses,
// and what is made of the tree says the same as the tree.

#include "client/cli/tree.h"

#include <cstdlib>
#include <fstream>
#include <set>

#include "absl/strings/str_join.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/cli.h"
#include "client/cli/testing/world.h"

namespace sae::cli {
namespace {
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

class TreeTest : public ::testing::Test {
 protected:
  int Run(const std::vector<std::string>& args) {
    t_.out.str("");
    t_.err.str("");
    return RunCli(args, t_.world);
  }
  testing::TestWorld t_;
  Session session_{t_.world};
  std::unique_ptr<CLI::App> tree_ = BuildTree(session_);
};

TEST_F(TreeTest, EveryVerbSaysWhatItDoesWithExamples) {
  for (const Leaf& leaf : Leaves(*tree_)) {
    const std::string path = absl::StrJoin(leaf.words, " ");
    EXPECT_FALSE(leaf.app->get_description().empty()) << path;
    EXPECT_THAT(leaf.app->get_footer(), AnyOf(HasSubstr("Example:"), HasSubstr("Examples:")))
        << path;
    EXPECT_FALSE(ExampleWords(*leaf.app).empty()) << path;
    EXPECT_THAT(leaf.app->help(), HasSubstr("saeloom " + path)) << path;
    for (const CLI::Option* option : leaf.app->get_options())
      EXPECT_FALSE(option->get_description().empty()) << path << " " << option->get_name();
  }
}

TEST_F(TreeTest, HelpIsThatOfTheVerb) {
  ASSERT_EQ(Run({"sweep", "get", "--help"}), 0);
  EXPECT_THAT(t_.out.str(), HasSubstr("Usage: saeloom sweep get [OPTIONS] sweep..."));
  EXPECT_THAT(t_.out.str(), HasSubstr("saeloom sweep get demo --watch"));
  EXPECT_EQ(t_.err.str(), "");
}

TEST_F(TreeTest, EveryExampleParsesAsTheVerbThatShowsIt) {
  int examples = 0;
  for (const Leaf& leaf : Leaves(*tree_)) {
    for (const std::vector<std::string>& words : ExampleWords(*leaf.app)) {
      const std::string line = absl::StrJoin(words, " ");
      ++examples;
      ASSERT_GE(words.size(), leaf.words.size()) << line;
      if (line.find("--checkpoint") != std::string::npos) {
        EXPECT_TRUE(IsOffline(words)) << line;  // is handed over as it stands
        continue;
      }
      Session session(t_.world);
      const auto tree = BuildTree(session);
      try {
        tree->parse(std::vector<std::string>(words.rbegin(), words.rend()));
      } catch (const CLI::ParseError& error) {
        ADD_FAILURE() << line << ": " << error.what();
        continue;
      }
      EXPECT_EQ(ChosenWords(*tree), leaf.words) << line;
      EXPECT_EQ(RefusedFlag(*tree), "") << line;
      EXPECT_TRUE(session.run != nullptr) << line;
      EXPECT_TRUE(!session.names() || HasNames(*tree, session)) << line;
    }
  }
  EXPECT_GT(examples, 80);
}

TEST_F(TreeTest, HasEveryNounAndVerb) {
  std::set<std::string> paths;
  for (const Leaf& leaf : Leaves(*tree_)) paths.insert(absl::StrJoin(leaf.words, " "));
  const std::vector<std::pair<const char*, std::vector<const char*>>> nouns = {
      {"sweep",
       {"list", "get", "describe", "pause", "resume", "cancel", "delete", "fork", "retry", "set",
        "add", "best", "export", "watch", "pareto"}},
      {"trial",
       {"list", "get", "describe", "logs", "metrics", "stop", "pause", "resume", "promote"}},
      {"checkpoint", {"list", "protect", "unprotect", "gc"}},
      {"worker", {"list", "get", "cordon", "drain", "uncordon"}},
      {"queue", {"list", "set"}},
      {"token", {"create", "list", "revoke"}},
      {"audit", {"list"}},
      {"debug", {"bundle"}},
      {"context", {"list", "use", "set", "delete"}}};
  for (const auto& [noun, verbs] : nouns) {
    for (const char* verb : verbs) {
      EXPECT_TRUE(paths.contains(std::string(noun) + " " + verb)) << noun << " " << verb;
    }
  }
  EXPECT_THAT(paths, IsSupersetOf({"up",     "validate", "plan",    "submit",  "list",
                                   "get",    "watch",    "logs",    "best",    "export",
                                   "retry",  "cancel",   "workers", "version", "completion",
                                   "whoami", "schema",   "events",  "top",     "health"}));
  EXPECT_FALSE(paths.contains("__complete"));
}

TEST_F(TreeTest, UnknownVerbsNameTheNearest) {
  EXPECT_EQ(Run({"sweep", "lst"}), 2);
  EXPECT_EQ(t_.err.str(),
            "error: unknown verb sweep lst, did you mean list?\nhint: saeloom --help\n");
  EXPECT_EQ(Run({"sweeep", "list"}), 2);
  EXPECT_THAT(t_.err.str(), HasSubstr("did you mean sweep?"));
  EXPECT_EQ(Run({"sweep"}), 2);
  EXPECT_THAT(t_.err.str(), HasSubstr("hint: saeloom sweep --help"));
  EXPECT_EQ(Run({"node", "--help"}), 0);
  EXPECT_THAT(t_.out.str(), HasSubstr("uncordon"));
}

TEST_F(TreeTest, FlagsThatAVerbDoesNotTakeAreRefusedWhereverTheyStand) {
  EXPECT_EQ(Run({"--limit", "3", "sweep", "pause", "demo"}), 2);
  EXPECT_THAT(t_.err.str(), HasSubstr("--limit: `saeloom sweep pause` does not take it"));
  EXPECT_EQ(Run({"sweep", "list", "--wait"}), 2);
  EXPECT_THAT(t_.err.str(), HasSubstr("--wait: `saeloom sweep list` does not take it"));
  EXPECT_EQ(Run({"version", "-o", "name"}), 2);
  EXPECT_THAT(t_.err.str(), HasSubstr("-o name: `saeloom version` has no names to print"));
}

// To write the file anew: SAELOOM_WRITE_DOCS=1 cli_tree_test
TEST_F(TreeTest, TheReferenceSaysTheSame) {
  const std::string path = SAE_SOURCE_DIR "/docs/cli.md";
  std::stringstream in;
  in << std::ifstream(path).rdbuf();
  std::string text = in.str();
  const std::string begin = "<!-- reference: begin -->\n", end = "<!-- reference: end -->";
  const std::size_t from = text.find(begin), to = text.find(end);
  ASSERT_NE(from, std::string::npos) << path;
  ASSERT_NE(to, std::string::npos) << path;
  const std::size_t start = from + begin.size();
  if (std::getenv("SAELOOM_WRITE_DOCS") != nullptr) {
    text.replace(start, to - start, Reference(*tree_));
    std::ofstream(path) << text;
    return;
  }
  EXPECT_EQ(text.substr(start, to - start), Reference(*tree_))
      << "run SAELOOM_WRITE_DOCS=1 cli_tree_test";
}

// Every `saeloom ...` line of the README is a command that parses.
TEST_F(TreeTest, TheReadmeIsTrue) {
  std::ifstream in(SAE_SOURCE_DIR "/README.md");
  int commands = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("$ saeloom ", 0) != 0) continue;
    Session session(t_.world);
    const auto tree = BuildTree(session);
    tree->footer("\n  " + line.substr(2, line.find(" &") - 2));
    const auto words = ExampleWords(*tree);
    ASSERT_EQ(words.size(), 1U) << line;
    ++commands;
    if (IsOffline(words[0])) continue;
    EXPECT_NO_THROW(tree->parse(std::vector<std::string>(words[0].rbegin(), words[0].rend())))
        << line;
  }
  EXPECT_GT(commands, 4);
}

}  // namespace
}  // namespace sae::cli
