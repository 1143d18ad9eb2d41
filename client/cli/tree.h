#pragma once
// The tree of commands: built in one place, walked by completion, the reference (docs/cli.md) and
// tests. `session` is borrowed by the tree.

#include <CLI/App.hpp>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/verb.h"

namespace sae::cli {

std::unique_ptr<CLI::App> BuildTree(Session& session);

struct Leaf {
  std::vector<std::string> words;  ///< {"sweep", "get"}
  const CLI::App* app;
};
/// Every verb that is not hidden, in the order of help.
std::vector<Leaf> Leaves(const CLI::App& tree);
/// {"sweep", "get"} of a parsed tree; shorter when parsing stopped early.
std::vector<std::string> ChosenWords(const CLI::App& tree);
/// "saeloom sweep get" of a place in the tree.
std::string PathOf(const CLI::App& app);
/// Names of its flags, "--limit", "-o".
std::vector<std::string> FlagNames(const CLI::App& app);
/// The words of each example of a verb, without the program's name, comments, pipes and
/// redirections.
std::vector<std::vector<std::string>> ExampleWords(const CLI::App& app);
/// "unknown verb ..., did you mean ...?"; "" when the words that should be verbs are.
std::string UnknownVerb(const CLI::App& tree, const std::vector<std::string>& args);
/// "--limit" when it was given to a verb that does not take it; "" when all is well.
std::string RefusedFlag(const CLI::App& tree);
/// Whether the chosen verb has `-o name`.
bool HasNames(const CLI::App& tree, const Session& session);
/// The reference in Markdown.
std::string Reference(const CLI::App& tree);

}  // namespace sae::cli
