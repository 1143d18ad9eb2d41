#include "client/cli/tree.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"

namespace sae::cli {
namespace {

constexpr char kFooter[] =
    "Offline verbs (no coordinator; each has its own --help):\n"
    "  harvest  store  lm  encode  import  latents  bench  export --checkpoint DIR\n\n"
    "Examples:\n"
    "  saeloom up                                   # a coordinator and a worker here, until "
    "Ctrl-C\n"
    "  saeloom plan examples/demo.yaml              # what it would run\n"
    "  saeloom submit examples/demo.yaml --follow   # run it and watch\n"
    "  saeloom best demo --svg pareto.svg           # the result table and its figure\n"
    "  saeloom export demo --best --format saelens --out sae\n\n"
    "The coordinator's address: --server, $SAELOOM_ADDR, the context in use, then "
    ".saeloom/address here or in a\nparent.\n"
    "Exit codes: 0 ok; 2 usage or bad input; 3 not found; 4 not allowed; 5 wrong state; 6 "
    "coordinator unreachable;\n"
    "1 all else; with --wait 10 some trials failed, 11 the sweep failed or was cancelled.";

void AddGlobalFlags(CLI::App& app, Session& s) {
  ConnectionFlags& c = s.connection;
  app.add_option("--server", c.server, "address of the coordinator, HOST:PORT");
  app.add_option("--context", c.context, "this one of `saeloom context list`");
  app.add_option("--ca", c.credentials.tls.ca,
                 "TLS: PEM file of the authority that signed its certificate");
  app.add_option("--cert", c.credentials.tls.cert, "TLS: PEM file of your own certificate");
  app.add_option("--key", c.credentials.tls.key, "TLS: PEM file of its key");
  app.add_option("--token-file", c.credentials.token_file,
                 "file with your token; beyond this machine it needs --ca");
  app.add_option("-o,--output", s.output,
                 "how results are printed: table, wide, json, yaml, jsonl (one a line), name")
      ->check(CLI::IsMember({"table", "wide", "json", "yaml", "jsonl", "name"}));
  app.add_option("--timeout", s.timeout_seconds,
                 "seconds that one answer of the coordinator may take")
      ->capture_default_str();
  app.add_flag("--quiet", s.quiet, "results alone, no progress and no notes");
  app.add_flag("--no-color", s.no_color, "no colours on a terminal (as $NO_COLOR)");
  app.add_option("--offline", s.offline,
                 "path of saeloom-offline; else it is looked up beside this program");
  // These stand before or after the verb; AddVerb gives them to those that take them.
  app.add_option("--limit", s.limit, "lists: at most so many")->check(CLI::NonNegativeNumber);
  app.add_option("--filter", s.filter, "lists: only what matches, as state=RUNNING");
  app.add_flag("--watch", s.watch, "lists: again whenever something changes, until Ctrl-C");
  app.add_flag("--wait", s.wait, "changes: until they are done");
  app.add_option("--request-id", s.request_id,
                 "changes: twice with the same one happen once (default: a new one)");
}

void AddVerbs(CLI::App& app, Session& session) {
  AddUp(app, session);
  AddValidate(app, session);
  AddPlan(app, session);
  AddSchema(app, session);
  AddSubmit(app, session);
  AddList(app, session);
  AddGet(app, session, "get");
  AddWatch(app, session);
  AddLogs(app, session);
  AddBest(app, session);
  AddExport(app, session);
  AddRetry(app, session);
  AddCancel(app, session);
  AddWorkers(app, session);
  AddSweep(app, session);
  AddTrial(app, session);
  AddCheckpoint(app, session);
  AddWorker(app, session);
  AddQueue(app, session);
  AddToken(app, session);
  AddAudit(app, session);
  AddEvents(app, session);
  AddTop(app, session);
  AddDebug(app, session);
  AddContext(app, session);
  AddVersion(app, session);
  AddCompletion(app, session);
}

void Collect(const CLI::App& app, std::vector<std::string>& words, std::vector<Leaf>& out) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (sub->get_group().empty()) continue;  // hidden
    words.push_back(sub->get_name());
    if (sub->get_subcommands({}).empty()) {
      out.push_back({words, sub});
    } else {
      Collect(*sub, words, out);
    }
    words.pop_back();
  }
}

std::vector<const CLI::App*> Chosen(const CLI::App& tree) {
  std::vector<const CLI::App*> out;
  for (const CLI::App* at = &tree; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    out.push_back(at);
  }
  return out;
}

}  // namespace

std::unique_ptr<CLI::App> BuildTree(Session& session) {
  auto app = std::make_unique<CLI::App>(
      "Saeloom: sweeps of sparse autoencoders on language-model activations", "saeloom");
  app->require_subcommand(1);
  app->fallthrough();
  app->footer(kFooter);
  AddGlobalFlags(*app, session);
  AddVerbs(*app, session);
  return app;
}

std::vector<Leaf> Leaves(const CLI::App& tree) {
  std::vector<Leaf> out;
  std::vector<std::string> words;
  Collect(tree, words, out);
  return out;
}

std::vector<std::string> ChosenWords(const CLI::App& tree) {
  std::vector<std::string> out;
  for (const CLI::App* app : Chosen(tree)) out.push_back(app->get_name());
  return out;
}

std::string PathOf(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : PathOf(*app.get_parent()) + " " + app.get_name();
}

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) out.push_back("--" + name);
    for (const std::string& name : option->get_snames()) out.push_back("-" + name);
  }
  return out;
}

std::vector<std::vector<std::string>> ExampleWords(const CLI::App& app) {
  std::vector<std::vector<std::string>> out;
  for (const auto line : absl::StrSplit(app.get_footer(), '\n')) {
    std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.empty() || words[0] != "saeloom" || !absl::StartsWith(line, "  ")) continue;
    const auto end = std::find_if(words.begin(), words.end(), [](const std::string& w) {
      return w == "#" || w == "|" || w == ">" || w == "&&";
    });
    std::vector<std::string> args(words.begin() + 1, end);
    for (std::string& a : args) a.erase(std::remove(a.begin(), a.end(), '\''), a.end());
    out.push_back(std::move(args));
  }
  return out;
}

std::string UnknownVerb(const CLI::App& tree, const std::vector<std::string>& args) {
  const CLI::App* at = &tree;
  std::string path;
  for (const std::string& word : args) {
    if (word.empty() || word[0] == '-') return "";
    std::vector<std::string> known;
    const CLI::App* next = nullptr;
    for (const CLI::App* verb : at->get_subcommands({})) {
      if (verb->check_name(word)) next = verb;
      if (!verb->get_group().empty()) known.push_back(verb->get_name());
    }
    if (known.empty()) return "";  // a verb: what follows is its own
    if (next == nullptr) {
      if (at == &tree) {
        for (const auto& [name, help] : OfflineVerbs()) known.push_back(name);
      }
      const std::string nearest = Nearest(word, known);
      return absl::StrCat("unknown verb ", path, word,
                          nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?"));
    }
    absl::StrAppend(&path, word, " ");
    at = next;
  }
  return "";
}

std::string RefusedFlag(const CLI::App& tree) {
  const auto chosen = Chosen(tree);
  if (chosen.empty()) return "";
  for (const char* name : {"--limit", "--filter", "--watch", "--wait", "--request-id"}) {
    const CLI::Option* option = tree.get_option_no_throw(name);
    if (option->count() > 0 && chosen.back()->get_option_no_throw(name) == nullptr) return name;
  }
  return "";
}

bool HasNames(const CLI::App& tree, const Session& session) {
  const auto chosen = Chosen(tree);
  return !chosen.empty() && session.name_verbs.contains(chosen.back());
}

}  // namespace sae::cli
