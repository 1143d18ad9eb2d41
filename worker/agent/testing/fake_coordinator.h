#pragma once
// A WorkerService in this process on a loopback port of its own: keeps what is reported with the
// rules of worker_service.proto, sends what a test commands, and can be taken down and brought up
// again with the same port and memory, as a restarted coordinator. Thread-safe.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <grpcpp/server.h>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "saeloom/v1/worker_service.grpc.pb.h"
#include "worker/agent/attempt_key.h"

namespace saeloom::agent {

class FakeCoordinator final : public v1::WorkerService::Service {
 public:
  /// `host`: the address to listen on.
  FakeCoordinator(absl::Duration heartbeat, absl::Duration lease,
                  const std::string& host = "127.0.0.1");
  ~FakeCoordinator() override;

  std::string address() const;
  /// Ends every stream and refuses connections.
  void TakeDown();
  /// A new epoch.
  void BringUp();

  void Command(const v1::StartAttempt& start);
  void Command(const v1::StopAttempt& stop);
  void Command(const v1::FetchLogs& logs);
  void Command(const v1::PrepareAttempt& prepare);
  void Command(const v1::ReleaseAttempt& release);
  void Command(const v1::KeepCheckpoint& keep);
  void Command(const v1::DeleteCheckpoints& remove);
  /// Register's next answers say that this attempt is not wanted.
  void Forget(const AttemptKey& key);
  void set_acknowledging(bool yes);  ///< of statuses
  /// Fails so many of the next ReportBatch calls with this code, after having committed them when
  /// `after`.
  void FailReports(int count, grpc::StatusCode code, bool after);

  std::vector<std::string> Lines(const AttemptKey& key) const;
  std::vector<v1::AttemptStatus> Statuses(const AttemptKey& key) const;  ///< each once
  bool Ended(const AttemptKey& key) const;
  /// "KEPT step-1": answers to KeepCheckpoint and DeleteCheckpoints, each once.
  std::vector<std::string> Checkpoints() const;
  std::string Logs(std::int64_t request) const;  ///< all text; "<end>" at the end
  std::vector<v1::RegisterRequest> registers() const;
  int free_slots() const;
  int gaps() const;  ///< refused batches

  grpc::Status Register(grpc::ServerContext*, const v1::RegisterRequest*,
                        v1::RegisterResponse*) override;
  grpc::Status Session(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>*) override;
  grpc::Status ReportBatch(grpc::ServerContext*, const v1::ReportBatchRequest*,
                           v1::ReportBatchResponse*) override;

 private:
  struct Known {
    std::vector<std::string> lines;
    std::map<std::string, v1::AttemptStatus> statuses;  ///< by incarnation and id
    bool ended = false;
  };
  void Add(v1::Command command);

  const absl::Duration heartbeat_, lease_;
  const std::string host_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  mutable sae::Mutex mu_;
  std::int64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
  std::string incarnation_ ABSL_GUARDED_BY(mu_);
  std::map<AttemptKey, Known> attempts_ ABSL_GUARDED_BY(mu_);
  std::set<AttemptKey> forgotten_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::Command> commands_ ABSL_GUARDED_BY(mu_);
  std::map<std::int64_t, std::string> checkpoints_ ABSL_GUARDED_BY(mu_);  ///< by status id
  std::map<std::int64_t, std::string> logs_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::RegisterRequest> registers_ ABSL_GUARDED_BY(mu_);
  bool acknowledging_ ABSL_GUARDED_BY(mu_) = true;
  int failures_ ABSL_GUARDED_BY(mu_) = 0;
  grpc::StatusCode failure_ ABSL_GUARDED_BY(mu_) = grpc::StatusCode::UNAVAILABLE;
  bool fail_after_ ABSL_GUARDED_BY(mu_) = false;
  int free_slots_ ABSL_GUARDED_BY(mu_) = -1;
  int gaps_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace saeloom::agent
