// list and workers, which also stand as `sweep list` and `worker list`.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/verb.h"

namespace sae::cli {

void AddList(CLI::App& app, Session& session) {
  auto order = std::make_shared<std::string>();
  CLI::App* verb = AddVerb(app, session, "list", "all sweeps",
                           {"%", "% --filter state=RUNNING --watch",
                            "% --filter labels.model=gpt2 -o name", "% -o json | jq '.[].name'"},
                           {.list = true, .watch = true, .names = true});
  verb->add_option("--order-by", *order,
                   "\"create_time desc\" (default), create_time, name or \"priority desc\"");
  OnRun(verb, session, [order, &session] {
    return Show(session, [order, &session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto sweeps,
                           api.ListSweeps(session.filter, session.limit, *order));
      return ListText(session, SweepKind(session.world.clock.Now()), sweeps);
    });
  });
}

void AddWorkers(CLI::App& app, Session& session) {
  const bool alone = app.get_parent() == nullptr;
  CLI::App* verb = AddVerb(app, session, alone ? "workers" : "list",
                           "the workers that have registered, and their slots",
                           {"%", "% -o wide --watch"}, {.watch = true, .names = true});
  verb->add_option("--limit", session.limit, "at most so many")->check(CLI::NonNegativeNumber);
  OnRun(verb, session, [&session] {
    return Show(session, [&session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto workers, api.ListWorkers(session.limit));
      return ListText(session, WorkerKind(session.world.clock.Now()), workers);
    });
  });
}

}  // namespace sae::cli
