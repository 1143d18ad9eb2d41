#pragma once
// The processes of a gang: mpirun, its ranks, and whatever carries the gang's marks. Shared by the
// attempts of its trials, each of which ticks it. A gang is gone only when every process is. One
// that an earlier incarnation of the worker started is watched through a pidfd: it is no child, so
// its exit code is never known. Not thread-safe; nothing here blocks for long. Errors: those of
// Process::Spawn.

#include <memory>
#include <optional>
#include <string>

#include "sae/base/env.h"
#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "worker/agent/gang.h"

namespace saeloom::agent {

class GangProcess {
 public:
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<GangProcess>> Launch(
      const GangOptions& options, const GangSpec& spec, int trials);
  /// mpirun as it was noted by the incarnation that started it, in this boot.
  struct Launcher {
    std::int64_t pid = 0;
    std::int64_t start_ticks = 0;
  };
  /// Gang `name` (a key as text) of an earlier incarnation of this worker. When `launcher` still is
  /// that process it goes on; else what is left of it is killed. For one attempt; AddTrial for each
  /// other one.
  static std::shared_ptr<GangProcess> Adopt(const std::string& name, const std::string& runs_id,
                                            const Launcher& launcher,
                                            const std::string& cgroup_root = "");
  ~GangProcess();

  std::int64_t pid() const { return launcher_ ? launcher_->pid() : 0; }
  void AddTrial() { ++trials_; }
  /// Attempts that have not ended.
  int trials() const { return trials_; }
  /// `gave_up`: after a GiveUp.
  void TrialEnded(bool gave_up);
  /// mpirun's, once it has ended; never of an adopted one.
  const std::optional<sae::ExitStatus>& exit() const { return exit_; }
  /// Taken back alive.
  bool adopted() const { return pidfd_ >= 0; }
  /// mpirun has.
  bool ended() const { return ended_; }
  /// How many of it the kernel killed for lack of memory, once it has ended; nullopt where nobody
  /// counts that.
  const std::optional<std::int64_t>& memory_kills() const { return memory_kills_; }
  bool killing() const { return killing_; }
  bool gone() const { return gone_; }

  /// SIGUSR1 to mpirun, once: all trials save and yield.
  void Notice();
  void Kill() { killing_ = true; }
  /// One trial needs it no more; when none does it is killed. Call it once a trial.
  void GiveUp();
  void Tick();

 private:
  sae::ProcessQuery Members() const;
  void Look();

  std::vector<std::string> marks_;
  std::optional<std::int64_t> memory_kills_;
  std::string group_;                       ///< its control group; "" = it has none
  std::unique_ptr<sae::Process> launcher_;  ///< null when adopted
  int pidfd_ = -1;                          ///< of an adopted mpirun that lived
  std::optional<sae::ExitStatus> exit_;
  int trials_ = 1;
  int given_up_ = 0;
  bool noticed_ = false;
  bool killing_ = false;
  bool ended_ = false;
  bool gone_ = false;
};

}  // namespace saeloom::agent
