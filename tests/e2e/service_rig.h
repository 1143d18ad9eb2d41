#pragma once
// A whole service as processes, for tests that kill parts of it: coordinator, workers and their
// gangs, on loopback with free ports, in a folder of the rig's own, with a small synthetic store.
// Every process it starts, and every process those start, carries a mark in its environment, so
// that the rig sees what is left behind. Waiting is polling with a deadline that only a hang
// reaches; nothing is timed. Main thread only. Destroying it kills whatever still carries the mark.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "tests/support/temp_dir.h"

namespace saeloom::e2e {

struct RigOptions {
  std::string heartbeat = "250ms";
  std::string lease = "4s";
};

class ServiceRig {
 public:
  static constexpr int kWidth = 32;  ///< of the store's rows
  static constexpr std::int64_t kBatch = 128;  ///< tokens of a step

  explicit ServiceRig(const RigOptions& options);
  ~ServiceRig();
  ServiceRig(const ServiceRig&) = delete;
  ServiceRig& operator=(const ServiceRig&) = delete;

  /// Starts it and waits until it listens; again after a kill: on the same port, with the same
  /// data.
  void StartCoordinator();
  /// Workers share one runs folder.
  void StartWorker(const std::string& name, int slots);
  void Kill(const std::string&
                process);  ///< SIGKILL to that process alone: "coordinator" or a worker's name
  void Terminate(const std::string& process);  ///< SIGTERM, and waits for its end

  /// A sweep of TopK over k = 2, 4, ...: `trials` trials of two ranks and `steps` steps, each in a gang of its own
  /// or in gangs of up to `pack`.
  void Submit(int trials, int steps, int pack = 1);
  /// Of the workers: runs/demo/TRIAL/...
  std::string runs() const { return folder_ / "runs"; }

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
  /// Everything alive that the rig's processes started, apart from those in `except`.
  std::vector<sae::ProcessInfo> Processes(const std::vector<std::string>& except = {}) const;
  pid_t PidOf(const std::string& process) const { return processes_.at(process)->pid(); }

  /// For messages of a failed test: the ends of all logs.
  std::string Logs() const;

  static bool WaitUntil(const std::function<bool()>& condition);

 private:
  void Spawn(const std::string& name, std::vector<std::string> argv);

  RigOptions options_;
  sae::testing::TempDir folder_;
  std::string mark_;
  std::string address_;
  std::map<std::string, std::unique_ptr<sae::Process>> processes_;
  std::unique_ptr<v1::SweepService::Stub> stub_;
  std::unique_ptr<v1::TrialService::Stub> trials_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

}  // namespace saeloom::e2e
