#include "client/cli/completion.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "client/cli/tree.h"

namespace sae::cli {
namespace {

struct Command {
  std::string path;  ///< "sweep get"
  std::string help;
  std::vector<std::string> flags;  ///< of the verb, then of the program
  std::vector<std::string> words;  ///< of a noun: its verbs; of an argument: its choices
  std::string kind;                ///< that __complete knows, "spec" or ""
  bool noun = false;
};

std::vector<std::string> Names(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (!sub->get_group().empty()) out.push_back(sub->get_name());
  }
  return out;
}

void Collect(const CLI::App& app, const std::string& path, const std::vector<std::string>& global,
             std::vector<Command>& out) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (sub->get_group().empty()) continue;
    std::vector<std::string> names = sub->get_aliases();
    names.insert(names.begin(), sub->get_name());
    for (const std::string& name : names) {
      Command c;
      c.path = path.empty() ? name : path + " " + name;
      c.help = sub->get_description();
      c.words = Names(*sub);
      c.noun = !c.words.empty();
      c.flags = FlagNames(*sub);
      for (const std::string& flag : global) {
        if (std::find(c.flags.begin(), c.flags.end(), flag) == c.flags.end())
          c.flags.push_back(flag);
      }
      c.kind = ArgumentKind(*sub);
      if (c.kind == "shell") c.words = {"bash", "zsh", "fish"};
      out.push_back(c);
      Collect(*sub, c.path, global, out);
    }
  }
}

/// Flags that hold for every verb; --limit and the like belong to those that take them.
std::vector<std::string> GlobalFlags(const CLI::App& tree) {
  std::vector<std::string> out = FlagNames(tree);
  std::erase_if(out, [](const std::string& f) {
    return f == "--limit" || f == "--filter" || f == "--watch" || f == "--wait" ||
           f == "--request-id";
  });
  return out;
}

std::vector<Command> Commands(const CLI::App& tree) {
  std::vector<Command> out;
  Collect(tree, "", GlobalFlags(tree), out);
  for (const auto& [name, help] : OfflineVerbs())
    out.push_back({name, help, {"--help"}, {}, "spec"});
  return out;
}

/// A line a command: "SWEEP GET) flags=... words=... kind=...", which bash and zsh share.
std::string Cases(const std::vector<Command>& commands) {
  std::string out;
  for (const Command& c : commands) {
    out += "    '" + c.path + "') flags='" + absl::StrJoin(c.flags, " ") + "' words='" +
           absl::StrJoin(c.words, " ") + "' kind='" + c.kind + "' ;;\n";
  }
  return out;
}

std::string TopWords(const std::vector<Command>& commands) {
  std::vector<std::string> out;
  for (const Command& c : commands) {
    if (c.path.find(' ') == std::string::npos) out.push_back(c.path);
  }
  return absl::StrJoin(out, " ");
}

/// 'sweep get'|'sweep list'|...: what makes the path grow by a word.
std::string Paths(const std::vector<Command>& commands) {
  return absl::StrJoin(commands, "|",
                       [](std::string* out, const Command& c) { *out += "'" + c.path + "'"; });
}

std::string Bash(const std::vector<Command>& commands) {
  return absl::StrReplaceAll(
      R"sh(# saeloom completion bash > ~/.local/share/bash-completion/completions/saeloom
_saeloom() {
  local word="${COMP_WORDS[COMP_CWORD]}" path='' flags='' words='' kind='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${path:+$path }${COMP_WORDS[i]}" in
      @PATHS@) path="${path:+$path }${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path" in
    '') flags='@FLAGS@' words='@TOP@' ;;
@CASES@  esac
  COMPREPLY=()
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")); return ;;
  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  elif [ -n "$kind" ] && [ "$kind" != spec ]; then
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" __complete "$kind" "$word" 2>/dev/null)" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _saeloom saeloom
)sh",
      {{"@PATHS@", Paths(commands)}, {"@TOP@", TopWords(commands)}, {"@CASES@", Cases(commands)}});
}

std::string Zsh(const std::vector<Command>& commands) {
  std::string described;
  for (const Command& c : commands) {
    if (c.path.find(' ') == std::string::npos) {
      described +=
          "      '" + c.path + ":" + absl::StrReplaceAll(c.help, {{"'", ""}, {":", " -"}}) + "'\n";
    }
  }
  return absl::StrReplaceAll(
      R"sh(#compdef saeloom
# saeloom completion zsh > "${fpath[1]}/_saeloom"
_saeloom() {
  local word="${words[CURRENT]}" path_='' flags='' choices='' kind='' i
  for ((i = 2; i < CURRENT; i++)); do
    case "${path_:+$path_ }${words[i]}" in
      @PATHS@) path_="${path_:+$path_ }${words[i]}" ;;
    esac
  done
  if [[ -z "$path_" && "$word" != -* ]]; then
    local -a verbs
    verbs=(
@DESCRIBED@    )
    _describe 'verb' verbs
    return
  fi
  case "$path_" in
    '') flags='@FLAGS@' ;;
@CASES@  esac
  if [[ "$word" == -* ]]; then
    compadd -- ${=flags}
  elif [[ -n "$choices" ]]; then
    compadd -- ${=choices}
  elif [[ -n "$kind" && "$kind" != spec ]]; then
    compadd -- ${(f)"$("${words[1]}" __complete "$kind" "$word" 2>/dev/null)"}
  else
    _files
  fi
}
_saeloom "$@"
)sh",
      {{"@PATHS@", Paths(commands)},
       {"@DESCRIBED@", described},
       {"@CASES@", absl::StrReplaceAll(Cases(commands), {{" words='", " choices='"}})}});
}

std::string FishFlag(const std::string& flag) {
  return flag.rfind("--", 0) == 0 ? "-l " + flag.substr(2) : "-s " + flag.substr(1);
}

std::string Fish(const std::vector<Command>& commands) {
  std::string out =
      "# saeloom completion fish > ~/.config/fish/completions/saeloom.fish\n"
      "complete -c saeloom -f\n";
  for (const Command& c : commands) {
    const std::size_t space = c.path.find(' ');
    const std::string noun = c.path.substr(0, space);
    const std::string verb = space == std::string::npos ? "" : c.path.substr(space + 1);
    const std::string help = absl::StrReplaceAll(c.help, {{"'", ""}});
    if (verb.empty()) {
      out += "complete -c saeloom -n __fish_use_subcommand -a " + noun + " -d '" + help + "'\n";
    } else {
      out += "complete -c saeloom -n '__fish_seen_subcommand_from " + noun +
             "; and test (count (commandline -opc)) -eq 2' -a " + verb + " -d '" + help + "'\n";
    }
    if (c.noun) continue;
    const std::string here = verb.empty() ? "__fish_seen_subcommand_from " + noun
                                          : "__fish_seen_subcommand_from " + noun +
                                                "; and __fish_seen_subcommand_from " + verb;
    for (const std::string& flag : c.flags)
      out += "complete -c saeloom -n '" + here + "' " + FishFlag(flag) + "\n";
    if (c.kind == "spec") {
      out += "complete -c saeloom -n '" + here + "' -F\n";
    } else if (!c.words.empty()) {
      out += "complete -c saeloom -n '" + here + "' -a '" + absl::StrJoin(c.words, " ") + "'\n";
    } else if (!c.kind.empty()) {
      out += "complete -c saeloom -n '" + here + "' -a '(saeloom __complete " + c.kind +
             " (commandline -ct) 2>/dev/null)'\n";
    }
  }
  return out;
}

}  // namespace

std::string ArgumentKind(const CLI::App& verb) {
  for (const CLI::Option* option : verb.get_options()) {
    if (option->get_positional()) return option->get_name(true);
  }
  return "";
}

std::string CompletionScript(const CLI::App& tree, const std::string& shell) {
  const std::vector<Command> commands = Commands(tree);
  if (shell == "fish") return Fish(commands);
  return absl::StrReplaceAll(shell == "bash" ? Bash(commands) : Zsh(commands),
                             {{"@FLAGS@", absl::StrJoin(GlobalFlags(tree), " ")}});
}

}  // namespace sae::cli
