// `saeloom trial`: the noun, list and get.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/names.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {

void AddTrialList(CLI::App& noun, Session& session) {
  struct Options {
    std::string sweep;
    std::string order;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      noun, session, "list", "trials of a sweep",
      {"% demo", "% demo --filter state=FAILED -o wide", "% demo --order-by objective --limit 5",
       "% demo --filter parameters.sae.k=8 -o name", "% demo --watch"},
      {.list = true, .watch = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--order-by", options->order,
                   "name (default), objective, or a metric as metrics.heldout.l0");
  OnRun(verb, session, [options, &session] {
    return Show(session, [options, &session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto trials, api.ListTrials(options->sweep, session.filter,
                                                             session.limit, options->order));
      return ListText(session, TrialKind(), trials);
    });
  });
}

void AddTrialGet(CLI::App& noun, Session& session) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = AddVerb(noun, session, "get", "one line of each trial that is named",
                           {"% demo/0003", "% demo/0003 demo/0004 -o wide", "% demo/0003 -o json"},
                           {.watch = true, .names = true});
  verb->add_option("trial", *names, "SWEEP/TRIAL, one or more")->required();
  OnRun(verb, session, [names, &session] {
    return Show(session, [names, &session](Api& api) -> absl::StatusOr<std::string> {
      std::vector<saeloom::v1::Trial> trials;
      for (const std::string& name : *names) {
        SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(name));
        SAE_ASSIGN_OR_RETURN(trials.emplace_back(), api.GetTrial(ref.sweep, ref.trial));
      }
      return GetText(session, TrialKind(), trials);
    });
  });
}

}  // namespace

void AddTrial(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "trial", "trials: one configuration of a sweep each");
  AddTrialList(*noun, session);
  AddTrialGet(*noun, session);
  AddGet(*noun, session, "describe");
  AddLogs(*noun, session);
  AddTrialMetrics(*noun, session);
  AddTrialChange(*noun, session);
}

}  // namespace sae::cli
