// `saeloom worker` (or `node`) list|get|cordon|drain|uncordon.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/await.h"
#include "client/cli/kinds.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using saeloom::v1::Worker;
using FleetStub = saeloom::v1::FleetService::StubInterface;

absl::StatusOr<Worker> GetWorker(Api& api, const std::string& id) {
  saeloom::v1::GetWorkerRequest request;
  request.set_id(id);
  return api.Call(&FleetStub::GetWorker, request);
}

std::string Line(const Worker& w) {
  std::string out = absl::StrCat("worker ", w.id(), ": ", w.state());
  if (!w.reason().empty()) absl::StrAppend(&out, " (", w.reason(), ")");
  if (!w.attempts().empty()) absl::StrAppend(&out, ", ", w.attempts_size(), " attempts run there");
  return out;
}

struct CordonOptions {
  std::vector<std::string> ids;
  std::string reason;
};

absl::Status Cordon(const CordonOptions& options, bool drain, Session& session) {
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  std::vector<Worker> workers;
  for (const std::string& id : options.ids) {
    saeloom::v1::CordonWorkerRequest request;
    request.set_id(id);
    request.set_reason(options.reason);
    request.set_drain(drain);
    SAE_ASSIGN_OR_RETURN(workers.emplace_back(), api->Mutate(&FleetStub::CordonWorker, request));
  }
  for (Worker& worker : workers) {
    if (session.wait) {
      SAE_RETURN_IF_ERROR(Await(session, "the worker drains on", [&]() -> absl::StatusOr<bool> {
        SAE_ASSIGN_OR_RETURN(worker, GetWorker(*api, worker.id()));
        return worker.attempts().empty();
      }));
    }
    PrintChanged(session, worker, worker.id(), Line(worker));
  }
  return absl::OkStatus();
}

void AddCordon(CLI::App& noun, Session& session, bool drain) {
  auto options = std::make_shared<CordonOptions>();
  std::vector<std::string> examples = {"% worker-0 --reason driver"};
  if (drain) examples.push_back("% worker-0 worker-1 --wait");
  CLI::App* verb = AddVerb(noun, session, drain ? "drain" : "cordon",
                           drain ? "start nothing new there; what runs saves and goes elsewhere"
                                 : "start nothing new there; what runs goes on",
                           examples, {.wait = drain, .change = true, .names = true},
                           drain ? "With --wait until nothing runs there." : "");
  verb->add_option("worker", options->ids, "ids of workers")->required();
  verb->add_option("--reason", options->reason, "shown with the worker");
  OnRun(verb, session, [options, drain, &session] { return Cordon(*options, drain, session); });
}

void AddWorkerGet(CLI::App& noun, Session& session) {
  auto ids = std::make_shared<std::vector<std::string>>();
  CLI::App* verb =
      AddVerb(noun, session, "get", "one line of each worker that is named",
              {"% worker-0 -o wide", "% worker-0 -o yaml"}, {.watch = true, .names = true});
  verb->add_option("worker", *ids, "ids of workers")->required();
  OnRun(verb, session, [ids, &session] {
    return Show(session, [ids, &session](Api& api) -> absl::StatusOr<std::string> {
      std::vector<Worker> workers;
      for (const std::string& id : *ids) {
        SAE_ASSIGN_OR_RETURN(workers.emplace_back(), GetWorker(api, id));
      }
      return GetText(session, WorkerKind(session.world.clock.Now()), workers);
    });
  });
}

}  // namespace

void AddWorker(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "worker", "workers: machines that train (also `node`)");
  noun->alias("node");
  AddWorkers(*noun, session);
  AddWorkerGet(*noun, session);
  AddCordon(*noun, session, false);
  AddCordon(*noun, session, true);
  auto ids = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = AddVerb(*noun, session, "uncordon", "start trials there again", {"% worker-0"},
                           {.change = true, .names = true});
  verb->add_option("worker", *ids, "ids of workers")->required();
  OnRun(verb, session, [ids, &session]() -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
    for (const std::string& id : *ids) {
      saeloom::v1::UncordonWorkerRequest request;
      request.set_id(id);
      SAE_ASSIGN_OR_RETURN(const Worker worker, api->Mutate(&FleetStub::UncordonWorker, request));
      PrintChanged(session, worker, worker.id(), Line(worker));
    }
    return absl::OkStatus();
  });
}

}  // namespace sae::cli
