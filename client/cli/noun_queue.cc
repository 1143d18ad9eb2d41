// `saeloom queue list|set`.

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "client/cli/kinds.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using FleetStub = saeloom::v1::FleetService::StubInterface;

struct QueueOptions {
  std::string queue;
  std::optional<std::int64_t> quota;
  std::optional<double> weight;
};

absl::Status Set(const QueueOptions& options, Session& session) {
  saeloom::v1::UpdateQueueRequest request;
  request.mutable_queue()->set_name(options.queue);
  if (options.quota) {
    request.mutable_queue()->set_quota_slots(*options.quota);
    request.mutable_update_mask()->add_paths("quota_slots");
  }
  if (options.weight) {
    request.mutable_queue()->set_weight(*options.weight);
    request.mutable_update_mask()->add_paths("weight");
  }
  if (request.update_mask().paths().empty())
    return absl::InvalidArgumentError("nothing to set: give --quota or --weight");
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto queue, api->Mutate(&FleetStub::UpdateQueue, request));
  PrintChanged(
      session, queue, queue.name(),
      absl::StrCat("queue ", queue.name(), ": quota ",
                   queue.quota_slots() > 0 ? absl::StrCat(queue.quota_slots(), " slots") : "none",
                   ", weight ", Number(queue.weight() > 0 ? queue.weight() : 1)));
  return absl::OkStatus();
}

}  // namespace

void AddQueue(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "queue", "queues: quotas and shares of the slots");
  CLI::App* list = AddVerb(*noun, session, "list", "all queues, and what they use",
                           {"%", "% --watch", "% -o json"}, {.watch = true, .names = true});
  OnRun(list, session, [&session] {
    return Show(session, [&session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto response,
                           api.Call(&FleetStub::ListQueues, saeloom::v1::ListQueuesRequest()));
      return ListText(session, QueueKind(), response.queues());
    });
  });
  auto options = std::make_shared<QueueOptions>();
  CLI::App* set = AddVerb(*noun, session, "set", "change a queue, or make one",
                          {"% research --quota 16 --weight 2", "% research --quota 0"},
                          {.change = true, .names = true});
  set->add_option("queue", options->queue, "its name")->required();
  set->add_option("--quota", options->quota, "slots in use at once at most; 0 = no limit")
      ->check(CLI::NonNegativeNumber);
  set->add_option("--weight", options->weight, "of its fair share; 1 where none is given")
      ->check(CLI::PositiveNumber);
  OnRun(set, session, [options, &session] { return Set(*options, session); });
}

}  // namespace sae::cli
