// What a bug report needs: counts and states, no specs, no paths of data, no tokens.
#include <nlohmann/json.hpp>

#include "server/service/fleet_handlers.h"

namespace sae::server {
namespace {
using nlohmann::json;

json Workers(const Core& core) {
  json out = json::array();
  for (const auto& [id, worker] : core.workers()) {
    json w = {{"id", id},
              {"ready", worker.ready},
              {"slots", worker.slots},
              {"free_slots", worker.ready ? core.FreeSlots(worker) : 0},
              {"draining_attempts", worker.draining.size()},
              {"gangs", core.live().host(id).gangs.size()},
              {"heartbeat", worker.heartbeat},
              {"recent_failures", core.health().Failures(id)},
              {"peers", !worker.peer_address.empty()},
              {"version", worker.version}};
    const auto cordon = core.state().fleet().cordons.find(id);
    if (cordon != core.state().fleet().cordons.end()) w["cordon"] = cordon->second.reason;
    out.push_back(std::move(w));
  }
  return out;
}

json Queues(const Core& core) {
  json out = json::object();
  const auto used = core.QueuesInUse();
  for (const auto& [name, queue] : core.state().fleet().queues) {
    out[name] = {{"quota_slots", queue.quota_slots},
                 {"weight", queue.weight},
                 {"used_slots", used.at(name).used}};
  }
  return out;
}

}  // namespace

absl::Status Handle(Core& core, const saeloom::v1::GetDebugInfoRequest&,
                    saeloom::v1::DebugInfo& response) {
  std::map<std::string, std::int64_t> sweeps, trials;
  for (const std::string& name : core.state().sweep_order()) {
    const SweepRecord& sweep = *core.state().sweep(name);
    ++sweeps[ToString(sweep.state)];
    for (const TrialState s : AllTrialStates()) trials[ToString(s)] += sweep.count(s);
  }
  json waiting = json::object();
  for (const auto& [key, n] : core.waiting()) waiting[key.first][ToString(key.second)] = n;
  const json info = {{"version", core.options().version},
                     {"epoch", core.epoch()},
                     {"sweeps", sweeps},
                     {"trials", trials},
                     {"workers", Workers(core)},
                     {"queues", Queues(core)},
                     {"waiting", waiting},
                     {"refused_events", core.refused_events()},
                     {"outbox_depth", core.OutboxDepth()},
                     {"store_bytes", core.StoreBytes()}};
  response.set_json(info.dump(2, ' ', false, json::error_handler_t::replace));
  return absl::OkStatus();
}

}  // namespace sae::server
