// completion, and what its scripts call: the hidden verb __complete.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "client/cli/completion.h"
#include "client/cli/context_file.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

/// A shell waits for the answer at every Tab.
constexpr double kPatienceSeconds = 0.5;
constexpr int kMost = 200;

using NamesOrError = absl::StatusOr<std::vector<std::string>>;

template <class Rows, class Name>
std::vector<std::string> NamesOf(const Rows& rows, Name name) {
  std::vector<std::string> out;
  for (const auto& row : rows) out.push_back(name(row));
  return out;
}

NamesOrError SweepNames(Api& api, const std::string& suffix) {
  SAE_ASSIGN_OR_RETURN(const auto sweeps, api.ListSweeps("", kMost));
  return NamesOf(sweeps, [&](const auto& s) { return BareName(s.name()) + suffix; });
}

/// "demo/" -> its trials; before the slash, sweeps with one.
NamesOrError TrialNames(Api& api, const std::string& word) {
  const std::size_t slash = word.find('/');
  if (slash == std::string::npos) return SweepNames(api, "/");
  SAE_ASSIGN_OR_RETURN(const auto trials, api.ListTrials(word.substr(0, slash), "", kMost));
  return NamesOf(trials, [](const auto& t) { return ShortName(t.name()); });
}

NamesOrError CheckpointNames(Api& api, const std::string& word) {
  const std::size_t first = word.find('/');
  const std::size_t second = first == std::string::npos ? first : word.find('/', first + 1);
  if (second == std::string::npos) {
    SAE_ASSIGN_OR_RETURN(auto names, TrialNames(api, word));
    if (first != std::string::npos) {
      for (std::string& n : names) n += "/";
    }
    return names;
  }
  const std::string trial = word.substr(first + 1, second - first - 1);
  SAE_ASSIGN_OR_RETURN(const auto rows, api.ListCheckpoints(word.substr(0, first), trial));
  return NamesOf(rows, [](const auto& c) { return ShortName(c.resource()); });
}

NamesOrError NamesFor(const std::string& kind, const std::string& word, Session& session) {
  using saeloom::v1::AuthService;
  using saeloom::v1::FleetService;
  if (kind == "context") {
    SAE_ASSIGN_OR_RETURN(const ContextFile file, LoadContexts(session.world));
    return NamesOf(file.contexts, [](const Context& c) { return c.name; });
  }
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  if (kind == "sweep") return SweepNames(*api, "");
  if (kind == "trial") return TrialNames(*api, word);
  if (kind == "checkpoint") return CheckpointNames(*api, word);
  if (kind == "worker") {
    SAE_ASSIGN_OR_RETURN(const auto workers, api->ListWorkers(kMost));
    return NamesOf(workers, [](const auto& w) { return w.id(); });
  }
  if (kind == "queue") {
    SAE_ASSIGN_OR_RETURN(const auto response, api->Call(&FleetService::StubInterface::ListQueues,
                                                        saeloom::v1::ListQueuesRequest()));
    return NamesOf(response.queues(), [](const auto& q) { return q.name(); });
  }
  if (kind == "token") {
    SAE_ASSIGN_OR_RETURN(const auto response, api->Call(&AuthService::StubInterface::ListTokens,
                                                        saeloom::v1::ListTokensRequest()));
    return NamesOf(response.tokens(), [](const auto& t) { return t.id(); });
  }
  return std::vector<std::string>();
}

void AddComplete(CLI::App& app, Session& session) {
  struct Options {
    std::string kind, word;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("__complete", "names for a shell's completion");
  verb->group("");  // hidden
  verb->add_option("kind", options->kind, "sweep, trial, ...")->required();
  verb->add_option("word", options->word, "what has been typed of it");
  OnRun(verb, session, [options, &session]() -> absl::Status {
    session.timeout_seconds = std::min(session.timeout_seconds, kPatienceSeconds);
    const NamesOrError names = NamesFor(options->kind, options->word, session);
    if (!names.ok()) return absl::OkStatus();  // a shell at its prompt is no place for errors
    std::string text;
    for (const std::string& name : *names) {
      if (name.rfind(options->word, 0) == 0) text += name + "\n";
    }
    Print(session, text);
    return absl::OkStatus();
  });
}

}  // namespace

void AddCompletion(CLI::App& app, Session& session) {
  auto shell = std::make_shared<std::string>();
  CLI::App* verb = AddVerb(app, session, "completion",
                           "a script that completes verbs, flags and names in a shell",
                           {"% bash > ~/.local/share/bash-completion/completions/saeloom",
                            "% zsh > _saeloom", "% fish > ~/.config/fish/completions/saeloom.fish"},
                           {}, "For this shell alone: eval \"$(saeloom completion bash)\"");
  verb->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  OnRun(verb, session, [shell, &app, &session]() -> absl::Status {
    Print(session, CompletionScript(app, *shell));
    return absl::OkStatus();
  });
  AddComplete(app, session);
}

}  // namespace sae::cli
