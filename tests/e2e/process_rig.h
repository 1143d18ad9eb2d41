#pragma once
// What tests of the whole service share: processes in a folder of the rig's own, and a small
// synthetic store. Every process it starts, and every process those start, carries a mark in its
// environment, so that the rig sees what is left behind. Waiting is polling with a deadline that
// only a hang reaches; nothing is timed. Main thread only. Destroying it kills whatever still
// carries the mark.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "tests/support/temp_dir.h"

namespace saeloom::e2e {

class ProcessRig {
 public:
  static constexpr int kWidth = 32;  ///< of the store's rows

  ProcessRig();
  virtual ~ProcessRig();
  ProcessRig(const ProcessRig&) = delete;
  ProcessRig& operator=(const ProcessRig&) = delete;

  /// Of the workers: runs/SWEEP/TRIAL/...
  std::string runs() const { return folder_ / "runs"; }
  std::string store() const { return folder_ / "store"; }

  /// SIGKILL to that process alone: "coordinator" or a worker's name.
  void Kill(const std::string& process);
  /// SIGTERM, and waits for its end.
  void Terminate(const std::string& process);

  /// Everything alive that the rig's processes started, apart from those in `except`.
  std::vector<sae::ProcessInfo> Processes(const std::vector<std::string>& except = {}) const;
  pid_t PidOf(const std::string& process) const { return processes_.at(process)->pid(); }

  /// For messages of a failed test: the ends of all logs.
  std::string Logs() const;

  static bool WaitUntil(const std::function<bool()>& condition);

 protected:
  static constexpr char kMark[] = "SAELOOM_E2E";  ///< the variable with the mark
  static constexpr absl::Duration kHang = absl::Seconds(120);

  /// Path of a program of this build.
  static std::string Binary(const std::string& name);
  /// Its output goes to NAME.log.
  void Spawn(const std::string& name, std::vector<std::string> argv);
  /// What --port-file of the coordinator says once it listens.
  std::string AddressIn(const std::string& port_file);
  const std::string& mark() const { return mark_; }

  sae::testing::TempDir folder_;
  std::map<std::string, std::unique_ptr<sae::Process>> processes_;

 private:
  std::string mark_;  ///< NAME=VALUE
};

}  // namespace saeloom::e2e
