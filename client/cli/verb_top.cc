// `saeloom top`: sweeps that are under way, queues and workers on one screen.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "client/cli/kinds.h"
#include "client/cli/sweep_text.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;
using saeloom::v1::Queue;
using saeloom::v1::Sweep;
using saeloom::v1::Worker;

struct Fleet {
  std::vector<Sweep> sweeps;  ///< those that have not ended, then the newest that have
  std::vector<Queue> queues;
  std::vector<Worker> workers;
  std::string no_queues;  ///< why there are none to show
  int ended = 0;          ///< that are not shown
};

constexpr std::size_t kEndedShown = 3;

absl::StatusOr<Fleet> Read(Api& api, const std::string& filter) {
  Fleet fleet;
  SAE_ASSIGN_OR_RETURN(auto sweeps, api.ListSweeps(filter));
  std::size_t ended_shown = 0;
  for (const bool ended : {false, true}) {
    for (Sweep& s : sweeps) {
      if (SweepHasEnded(s) != ended) continue;
      if (ended && ++ended_shown > kEndedShown) {
        ++fleet.ended;
      } else {
        fleet.sweeps.push_back(s);
      }
    }
  }
  SAE_ASSIGN_OR_RETURN(fleet.workers, api.ListWorkers());
  const auto queues = api.Call(&saeloom::v1::FleetService::StubInterface::ListQueues,
                               saeloom::v1::ListQueuesRequest());
  if (queues.ok()) {
    fleet.queues.assign(queues->queues().begin(), queues->queues().end());
  } else if (absl::IsUnimplemented(queues.status())) {
    fleet.no_queues = "queues: this coordinator does not tell of them (UNIMPLEMENTED)\n";
  } else {
    return queues.status();
  }
  return fleet;
}

std::string Text(const Session& session, const Fleet& fleet, const Api& api) {
  const absl::Time now = session.world.clock.Now();
  std::int64_t slots = 0, free = 0;
  for (const Worker& w : fleet.workers) {
    slots += w.slots();
    free += w.free_slots();
  }
  const auto under_way = std::count_if(fleet.sweeps.begin(), fleet.sweeps.end(),
                                       [](const Sweep& s) { return !SweepHasEnded(s); });
  std::string out = absl::StrCat(api.address().target, "  ", under_way, " sweeps under way  ",
                                 slots - free, "/", slots, " slots in use  ", fleet.workers.size(),
                                 " workers\n\n", TableText(session, SweepKind(now), fleet.sweeps));
  if (fleet.ended > 0) absl::StrAppend(&out, "… ", fleet.ended, " more have ended\n");
  absl::StrAppend(
      &out, "\n",
      fleet.no_queues.empty() ? TableText(session, QueueKind(), fleet.queues) : fleet.no_queues,
      "\n", TableText(session, WorkerKind(now), fleet.workers));
  return out;
}

std::string Json(const Fleet& fleet) {
  return absl::StrCat("{\"sweeps\": ", JsonArrayText(fleet.sweeps),
                      ", \"queues\": ", JsonArrayText(fleet.queues),
                      ", \"workers\": ", JsonArrayText(fleet.workers), "}");
}

}  // namespace

void AddTop(CLI::App& app, Session& session) {
  auto once = std::make_shared<bool>(false);
  CLI::App* verb =
      AddVerb(app, session, "top", "sweeps under way, queues and workers on one screen, live",
              {"%", "% --once -o wide", "% --once --filter owner=ann"}, {.watch = true},
              "Without a terminal, and with a machine form, once unless --watch is given.");
  verb->add_option("--filter", session.filter, "sweeps that match alone");
  verb->add_flag("--once", *once, "show it and end");
  OnRun(verb, session, [once, &session] {
    if (!*once && session.world.terminal && !session.json()) session.watch = true;
    return Show(session, [&session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const Fleet fleet, Read(api, session.filter));
      return session.json() ? MachineText(session, Json(fleet)) : Text(session, fleet, api);
    });
  });
}

}  // namespace sae::cli
