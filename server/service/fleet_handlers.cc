#include "server/service/fleet_handlers.h"

#include <set>

#include "absl/strings/str_join.h"

#include "server/service/convert.h"
#include "server/service/list_page.h"
#include "server/service/lookup.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

v1::Worker WorkerToProto(const Core& core, const WorkerEntry& worker) {
  v1::Worker out;
  out.set_id(worker.id);
  out.set_address(worker.address);
  out.set_slots(worker.slots);
  out.set_free_slots(worker.ready ? core.FreeSlots(worker) : 0);
  out.set_runs_id(worker.runs_id);
  out.set_state(WorkerStateOf(core, worker));
  if (worker.last_heartbeat != absl::Time())
    *out.mutable_last_heartbeat() = ToTimestamp(worker.last_heartbeat);
  const auto& cordons = core.state().fleet().cordons;
  if (const auto cordon = cordons.find(worker.id); cordon != cordons.end())
    out.set_reason(cordon->second.reason);
  out.set_rack(worker.rack);
  out.set_gpus(worker.gpus);
  out.set_memory_bytes(worker.memory_bytes);
  out.set_version(worker.version);
  out.set_recent_failures(core.health().Failures(worker.id));
  std::set<AttemptKey> holding;
  for (const auto& [name, index] : core.live().On(worker.id)) {
    const TrialRecord& trial = core.state().sweep(name)->trials[static_cast<std::size_t>(index)];
    holding.insert({name, TrialNameOf(index), trial.attempts.back().number});
  }
  for (const auto& [key, held] : worker.draining) holding.insert(key);
  for (const AttemptKey& key : holding)
    out.add_attempts(absl::StrCat(key.sweep, "/", key.trial, "/attempts/", key.attempt));
  return out;
}

absl::StatusOr<const WorkerEntry*> FindWorker(const Core& core, const std::string& id) {
  const auto it = core.workers().find(id);
  if (it == core.workers().end()) {
    return absl::NotFoundError(
        absl::StrCat("no worker \"", id, "\"; `saeloom worker list` shows those there are"));
  }
  return &it->second;
}

v1::Queue QueueToProto(const Core& core, const std::string& name) {
  const QueueRecord& record = core.state().fleet().queues.at(name);
  v1::Queue out;
  out.set_name(name);
  out.set_quota_slots(record.quota_slots);
  out.set_weight(record.weight);
  out.set_used_slots(core.QueuesInUse()[name].used);
  std::int64_t pending = 0;
  for (const auto& [key, n] : core.waiting()) pending += key.first == name ? n : 0;
  out.set_pending_trials(pending);
  return out;
}

}  // namespace

absl::Status Handle(Core& core, const v1::ListWorkersRequest& request,
                    v1::ListWorkersResponse& response) {
  std::vector<const WorkerEntry*> workers;
  std::vector<Place> places;
  for (const auto& [id, worker] : core.workers()) {
    workers.push_back(&worker);
    places.push_back({true, id, 0, id});
  }
  SAE_ASSIGN_OR_RETURN(
      const PageResult page,
      PageOf(places, {request.page_size(), request.page_token(), "workers", false}));
  for (const std::size_t i : page.items) *response.add_workers() = WorkerToProto(core, *workers[i]);
  response.set_next_page_token(page.next_token);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::GetWorkerRequest& request, v1::Worker& response) {
  SAE_ASSIGN_OR_RETURN(const WorkerEntry* worker, FindWorker(core, request.id()));
  response = WorkerToProto(core, *worker);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::CordonWorkerRequest& request, v1::Worker& response) {
  SAE_ASSIGN_OR_RETURN(const WorkerEntry* worker, FindWorker(core, request.id()));
  SAE_RETURN_IF_ERROR(
      core.CordonWorker(request.id(), request.reason(), request.drain(), KeyOf(request)));
  response = WorkerToProto(core, *worker);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::UncordonWorkerRequest& request, v1::Worker& response) {
  SAE_RETURN_IF_ERROR(core.UncordonWorker(request.id(), KeyOf(request)));
  const auto it = core.workers().find(request.id());
  response.set_id(request.id());
  response.set_state("lost");  // cordoned once, and not seen since the coordinator started
  if (it != core.workers().end()) response = WorkerToProto(core, it->second);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::ListQueuesRequest&, v1::ListQueuesResponse& response) {
  for (const auto& [name, queue] : core.state().fleet().queues)
    *response.add_queues() = QueueToProto(core, name);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::UpdateQueueRequest& request, v1::Queue& response) {
  const std::string& name = request.queue().name();
  const auto& queues = core.state().fleet().queues;
  QueueRecord queue;
  if (const auto it = queues.find(name); it != queues.end()) queue = it->second;
  std::vector<std::string> problems;
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "quota_slots") {
      queue.quota_slots = request.queue().quota_slots();
    } else if (path == "weight") {
      queue.weight = request.queue().weight();
    } else {
      problems.push_back(
          absl::StrCat("update_mask: \"", path, "\" cannot be changed, only quota_slots, weight"));
    }
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
  if (queue.weight == 0) queue.weight = 1;
  SAE_RETURN_IF_ERROR(core.UpdateQueue(name, queue, KeyOf(request)));
  response = QueueToProto(core, name);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::GetAllocationRequest& request, v1::Allocation& response) {
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.trial(), "trial"));
  const AttemptRecord* attempt = found.second->live_attempt();
  const std::string trial = TrialNameOf(found.second->index);
  if (attempt == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("trial ", trial, " of sweep \"", found.first->name,
                     "\" holds no slots: it is ", ToString(found.second->state)));
  }
  response.set_attempt(absl::StrCat("projects/default/sweeps/", found.first->name, "/trials/",
                                    trial, "/attempts/", attempt->number));
  std::vector<HostShare> hosts = attempt->hosts;
  if (hosts.empty()) hosts = {{attempt->worker, attempt->slots}};
  for (const HostShare& host : hosts) {
    response.add_workers(host.worker);
    response.add_slots(host.slots);
  }
  response.set_state(attempt->hosts.empty() || attempt->prepared ? "committed" : "preparing");
  return absl::OkStatus();
}

}  // namespace sae::server
