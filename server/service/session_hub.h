#pragma once
// The live Session stream of each worker, and what is to be sent on it. All members but those of
// Link run on the core's thread.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "saeloom/v1/worker_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

/// One stream, whatever carries it. Thread-safe; calls after its end do nothing.
class SessionLink {
 public:
  virtual ~SessionLink() = default;
  /// What is not yet on the wire is merged: the newest commands and heartbeat, all acks and log
  /// requests.
  virtual void Send(saeloom::v1::CoordinatorMessage message) = 0;
  virtual void End(const absl::Status& status) = 0;
};

/// Merges `next` into `queued`, which was not sent yet.
void MergeMessage(const saeloom::v1::CoordinatorMessage& next,
                  saeloom::v1::CoordinatorMessage& queued);

class SessionHub final : public CoreObserver {
 public:
  /// A message has come in on `link`. The first one of a worker binds the link to it; an older link
  /// ends.
  void Receive(Core& core, const std::shared_ptr<SessionLink>& link,
               const saeloom::v1::WorkerMessage& message);
  void Remove(const SessionLink* link);
  /// Sends commands that are new, and answers what has come in. What was committed is durable by
  /// then.
  void Poll(Core& core);
  /// In place of Poll when it may not be: statuses that were not acknowledged come again.
  void ForgetAcks() { acks_.clear(); }
  /// False when the worker has no session.
  bool SendLogRequest(Core& core, const std::string& worker, const saeloom::v1::FetchLogs& request);
  /// Ends all sessions with UNAVAILABLE: workers come back to the next coordinator.
  void Drain();

  void OnCommands(const std::string& worker) override { changed_.insert(worker); }

 private:
  saeloom::v1::CoordinatorMessage Compose(Core& core, const std::string& worker) const;

  std::map<std::string, std::shared_ptr<SessionLink>> links_;  // shared with gRPC's reactors
  std::set<std::string> changed_;
  std::map<std::string, std::vector<std::int64_t>> acks_;  ///< of statuses, by worker
};

}  // namespace sae::server
