#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "client/cli/verb.h"

namespace sae::cli {
namespace {

struct VerbWords {
  std::string name;
  std::string help;
  std::vector<std::string> flags;
};

std::vector<std::string> Flags(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
    for (const std::string& name : option->get_snames()) out.push_back("-" + name);
  }
  return out;
}

std::vector<VerbWords> Verbs(const CLI::App& app) {
  std::vector<VerbWords> out;
  const std::vector<std::string> global = Flags(app);
  for (const CLI::App* verb : app.get_subcommands({})) {
    VerbWords words{verb->get_name(), verb->get_description(), Flags(*verb)};
    words.flags.insert(words.flags.end(), global.begin(), global.end());
    out.push_back(std::move(words));
  }
  for (const auto& [name, help] : OfflineVerbs()) out.push_back({name, help, {"--help"}});
  return out;
}

std::string Names(const std::vector<VerbWords>& verbs) {
  return absl::StrJoin(verbs, " ", [](std::string* out, const VerbWords& v) { *out += v.name; });
}

std::string Bash(const std::vector<VerbWords>& verbs) {
  std::string out =
      "# eval \"$(saeloom completion bash)\"\n_saeloom() {\n  local "
      "word=\"${COMP_WORDS[COMP_CWORD]}\" verb=\"${COMP_WORDS[1]}\"\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"" +
      Names(verbs) +
      "\" -- \"$word\")); return; fi\n"
      "  local flags=\"\"\n  case \"$verb\" in\n";
  for (const VerbWords& v : verbs)
    out += "    " + v.name + ") flags=\"" + absl::StrJoin(v.flags, " ") + "\" ;;\n";
  return out +
         "  esac\n  case \"$word\" in\n    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) "
         ";;\n"
         "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n  esac\n}\ncomplete -o filenames -F "
         "_saeloom saeloom\n";
}

std::string Zsh(const std::vector<VerbWords>& verbs) {
  std::string out =
      "#compdef saeloom\n# saeloom completion zsh > \"${fpath[1]}/_saeloom\"\n_saeloom() {\n  "
      "local -a verbs\n  verbs=(\n";
  for (const VerbWords& v : verbs)
    out += "    '" + v.name + ":" + absl::StrReplaceAll(v.help, {{"'", ""}, {":", " -"}}) + "'\n";
  out +=
      "  )\n  if (( CURRENT == 2 )); then _describe 'verb' verbs; return; fi\n  case "
      "\"${words[2]}\" in\n";
  for (const VerbWords& v : verbs)
    out += "    " + v.name + ") compadd -- " + absl::StrJoin(v.flags, " ") + " ;;\n";
  return out + "  esac\n  _files\n}\n_saeloom \"$@\"\n";
}

std::string Fish(const std::vector<VerbWords>& verbs) {
  std::string out = "# saeloom completion fish | source\n";
  for (const VerbWords& v : verbs) {
    out += "complete -c saeloom -n __fish_use_subcommand -a " + v.name + " -d '" +
           absl::StrReplaceAll(v.help, {{"'", ""}}) + "'\n";
    for (const std::string& flag : v.flags) {
      const bool is_long = flag.rfind("--", 0) == 0;
      out += "complete -c saeloom -n '__fish_seen_subcommand_from " + v.name + "' " +
             (is_long ? "-l " + flag.substr(2) : "-s " + flag.substr(1)) + "\n";
    }
  }
  return out;
}

}  // namespace

void AddCompletion(CLI::App& app, Session& session) {
  auto shell = std::make_shared<std::string>();
  CLI::App* verb =
      app.add_subcommand("completion", "a script that completes verbs and flags in a shell");
  verb->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  verb->footer("Example:\n  eval \"$(saeloom completion bash)\"");
  verb->callback([shell, &app, &session] {
    const std::vector<VerbWords> verbs = Verbs(app);
    session.world.out << (*shell == "bash"  ? Bash(verbs)
                          : *shell == "zsh" ? Zsh(verbs)
                                            : Fish(verbs))
                      << std::flush;
  });
}

}  // namespace sae::cli
