#pragma once
// A worker without processes: registers, holds a session, starts what it is told to, reports points
// at a rate and ends its trials after some of them. Two threads, one channel. Ends with Stop.

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "bench/coordinator/statistics.h"
#include "sae/base/mutex.h"
#include "saeloom/v1/worker_service.grpc.pb.h"

namespace sae::bench {

struct AgentOptions {
  std::string address;
  int slots = 4;
  double points_per_second = 25;  ///< of all its trials
  int points_per_trial = 200;     ///< half as many to half more, by the trial's name
  absl::Duration report_every = absl::Seconds(1);
};

/// Counted over all agents. Thread-safe.
struct AgentTotals {
  std::atomic<std::int64_t> lines{0};   ///< acknowledged
  std::atomic<std::int64_t> trials{0};  ///< ended
  std::atomic<std::int64_t> errors{0};
  Latencies report;
};

class SimAgent {
 public:
  SimAgent(std::string id, AgentOptions options, AgentTotals& totals);
  ~SimAgent() { Stop(); }
  /// Stop returns sooner after it.
  void AskToStop() { stopping_ = true; }
  void Stop();

 private:
  struct Attempt {
    saeloom::v1::StartAttempt start;
    std::int64_t points = 0;  ///< in all
    std::int64_t seq = 0;     ///< acknowledged
    std::int64_t step = 0;
    double credit = 0;           ///< points that it may report
    std::int64_t status_id = 0;  ///< > 0: ended, not acknowledged
  };
  void Run();
  /// Until the session or the agent ends.
  void OneSession();
  void Read(grpc::ClientReaderWriter<saeloom::v1::WorkerMessage, saeloom::v1::CoordinatorMessage>&
                session);
  bool Beat(grpc::ClientReaderWriter<saeloom::v1::WorkerMessage, saeloom::v1::CoordinatorMessage>&
                session);
  bool Report(Attempt& attempt, double points);

  const std::string id_;
  const AgentOptions options_;
  AgentTotals& totals_;
  std::unique_ptr<saeloom::v1::WorkerService::Stub> stub_;
  std::atomic<bool> stopping_{false};
  saeloom::v1::RegisterResponse registered_;
  std::int64_t heartbeat_ = 0;
  std::int64_t status_id_ = 0;
  Mutex mu_;
  std::map<std::string, Attempt> attempts_ ABSL_GUARDED_BY(mu_);  ///< by "trial/attempt"
  bool broken_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace sae::bench
