#include "server/service/session_hub.h"

#include "server/service/convert.h"

namespace sae::server {

void MergeMessage(const saeloom::v1::CoordinatorMessage& next,
                  saeloom::v1::CoordinatorMessage& queued) {
  queued.set_epoch(next.epoch());
  queued.set_heartbeat(std::max(queued.heartbeat(), next.heartbeat()));
  queued.mutable_status_acks()->MergeFrom(next.status_acks());
  // Start and Stop are a full list each time; log requests are sent once, so they add up.
  google::protobuf::RepeatedPtrField<saeloom::v1::Command> logs;
  for (const auto& command : queued.commands()) {
    if (command.has_logs()) *logs.Add() = command;
  }
  const bool logs_only = next.commands_size() > 0 && next.commands(0).has_logs();
  if (logs_only) {
    queued.mutable_commands()->MergeFrom(next.commands());
  } else {
    *queued.mutable_commands() = next.commands();
    queued.mutable_commands()->MergeFrom(logs);
  }
}

saeloom::v1::CoordinatorMessage SessionHub::Compose(Core& core, const std::string& worker) const {
  saeloom::v1::CoordinatorMessage message;
  message.set_epoch(core.epoch());
  message.set_heartbeat(core.workers().at(worker).heartbeat);
  for (const Command& command : core.CommandsFor(worker))
    *message.add_commands() = ToProto(command);
  return message;
}

void SessionHub::Receive(Core& core, const std::shared_ptr<SessionLink>& link,
                         const saeloom::v1::WorkerMessage& message) {
  const auto reply = core.Heartbeat(FromProto(message));
  if (!reply.ok()) {
    link->End(reply.status());
    return Remove(link.get());
  }
  std::shared_ptr<SessionLink>& bound = links_[message.worker_id()];
  if (bound != link) {
    if (bound != nullptr)
      bound->End(absl::AbortedError("a newer session of this worker has replaced this one"));
    bound = link;
  }
  std::vector<std::int64_t>& acks = acks_[message.worker_id()];
  acks.insert(acks.end(), reply->status_acks.begin(), reply->status_acks.end());
  changed_.insert(message.worker_id());
}

void SessionHub::Remove(const SessionLink* link) {
  std::erase_if(links_, [&](const auto& entry) { return entry.second.get() == link; });
}

void SessionHub::Poll(Core& core) {
  const auto all_acks = std::exchange(acks_, {});
  for (const std::string& worker : std::exchange(changed_, {})) {
    const auto it = links_.find(worker);
    const auto entry = core.workers().find(worker);
    if (it == links_.end() || entry == core.workers().end() || !entry->second.ready) continue;
    saeloom::v1::CoordinatorMessage message = Compose(core, worker);
    if (const auto acks = all_acks.find(worker); acks != all_acks.end())
      message.mutable_status_acks()->Assign(acks->second.begin(), acks->second.end());
    it->second->Send(std::move(message));
  }
}

bool SessionHub::SendLogRequest(Core& core, const std::string& worker,
                                const saeloom::v1::FetchLogs& request) {
  const auto it = links_.find(worker);
  if (it == links_.end()) return false;
  saeloom::v1::CoordinatorMessage message;
  message.set_epoch(core.epoch());
  message.set_heartbeat(core.workers().at(worker).heartbeat);
  *message.add_commands()->mutable_logs() = request;
  it->second->Send(std::move(message));
  return true;
}

void SessionHub::Drain() {
  for (auto& [worker, link] : links_)
    link->End(absl::UnavailableError("the coordinator is stopping"));
  links_.clear();
}

}  // namespace sae::server
