#pragma once
// A whole service as processes, for tests that kill parts of it: coordinator, workers and their
// gangs, on loopback with free ports, without TLS, and stubs to call it. Main thread only.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "tests/e2e/process_rig.h"

namespace saeloom::e2e {

struct RigOptions {
  std::string heartbeat = "250ms";
  std::string lease = "4s";
};

class ServiceRig : public ProcessRig {
 public:
  static constexpr std::int64_t kBatch = 128;  ///< tokens of a step

  explicit ServiceRig(const RigOptions& options) : options_(options) {}

  /// Starts it and waits until it listens; again after a kill: on the same port, with the same
  /// data.
  void StartCoordinator();
  /// Workers share one runs folder.
  void StartWorker(const std::string& name, int slots);

  /// A sweep of TopK over k = 2, 4, ...: `trials` trials of two ranks and `steps` steps, each in a
  /// gang of its own or in gangs of up to `pack`.
  void Submit(int trials, int steps, int pack = 1);

  v1::SweepService::Stub& sweeps() { return *stub_; }
  v1::TrialService::Stub& trials() { return *trials_; }

  v1::Sweep GetSweep();
  std::vector<v1::Trial> GetTrials();  ///< with their attempts
  /// Steps of train.loss in the effective curve, in the order they come.
  std::vector<std::int64_t> Steps(const std::string& trial);
  /// Waits until the trial runs, has a checkpoint, and has reported a step of `step` or later.
  bool WaitUntilUnderWay(const std::string& trial, std::int64_t step);
  bool WaitUntilEnded();

  /// Ranks of a trial that run now: pid by rank.
  std::map<int, pid_t> Ranks(const std::string& trial);

 private:
  RigOptions options_;
  std::string address_;
  std::unique_ptr<v1::SweepService::Stub> stub_;
  std::unique_ptr<v1::TrialService::Stub> trials_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

}  // namespace saeloom::e2e
