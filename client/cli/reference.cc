// docs/cli.md from the tree of commands.

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "client/cli/tree.h"

namespace sae::cli {
namespace {

std::string Cell(const std::string& text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

/// "SWEEP [--limit] [--filter]".
std::string Arguments(const CLI::App& verb) {
  std::vector<std::string> out;
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional()) {
      std::string name = option->get_name(true);
      for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      if (option->get_expected_max() > 1) name += "...";
      out.push_back(option->get_required() ? name : "[" + name + "]");
    }
  }
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional() || option->get_lnames().empty() ||
        option->get_lnames()[0] == "help")
      continue;
    const std::string name = "--" + option->get_lnames()[0];
    out.push_back(option->get_required() ? name : "[" + name + "]");
  }
  return absl::StrJoin(out, " ");
}

}  // namespace

std::string Reference(const CLI::App& tree) {
  std::string out = "| flag | meaning |\n|---|---|\n";
  for (const CLI::Option* option : tree.get_options()) {
    absl::StrAppend(&out, "| `", option->get_name(false, true), "` | ",
                    Cell(option->get_description()), " |\n");
  }
  out += "\n| command | what it does |\n|---|---|\n";
  for (const Leaf& leaf : Leaves(tree)) {
    const std::string arguments = Arguments(*leaf.app);
    absl::StrAppend(&out, "| `", absl::StrJoin(leaf.words, " "), arguments.empty() ? "" : " ",
                    Cell(arguments), "` | ", Cell(leaf.app->get_description()), " |\n");
  }
  for (const auto& [name, help] : OfflineVerbs())
    absl::StrAppend(&out, "| `", name, "` | ", Cell(help), " (no coordinator needed) |\n");
  return out;
}

}  // namespace sae::cli
