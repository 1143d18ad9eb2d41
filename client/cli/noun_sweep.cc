// `saeloom sweep`: the noun, and get.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {

void AddSweepGet(CLI::App& noun, Session& session) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = AddVerb(noun, session, "get", "one line of each sweep that is named",
                           {"% demo", "% demo other -o wide", "% demo -o yaml", "% demo --watch"},
                           {.watch = true, .names = true});
  verb->add_option("sweep", *names, "names of sweeps")->required();
  OnRun(verb, session, [names, &session] {
    return Show(session, [names, &session](Api& api) -> absl::StatusOr<std::string> {
      std::vector<saeloom::v1::Sweep> sweeps;
      for (const std::string& name : *names) {
        SAE_ASSIGN_OR_RETURN(sweeps.emplace_back(), api.GetSweep(name));
      }
      return GetText(session, SweepKind(session.world.clock.Now()), sweeps);
    });
  });
}

}  // namespace

void AddSweep(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "sweep", "sweeps: what is trained, and how far it is");
  AddList(*noun, session);
  AddSweepGet(*noun, session);
  AddGet(*noun, session, "describe");
  AddWatch(*noun, session);
  AddBest(*noun, session);
  AddExport(*noun, session);
  AddSweepChange(*noun, session);
  AddSweepGrow(*noun, session);
}

}  // namespace sae::cli
