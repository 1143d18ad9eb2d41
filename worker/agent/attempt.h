#pragma once
// One attempt of a trial on this machine: its folder, its gang of processes, and how it ends. A
// state machine that its owner ticks; nothing here blocks for long or starts a thread. Not
// thread-safe. Whatever happens - success, crash, stop, an earlier worker's death - it has ended
// only when every process of the gang is gone: those of mpirun's session and all that carry the
// gang's marks in their environment. Of several trials in one gang each has its own attempt; one
// whose verdict is in its events has left, and ends while the others go on. To stop one alone its
// lease is taken away: the trainer then lets that trial yield. When it does not, or when all are to
// stop, the gang is killed.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/config/run_config.h"
#include "saeloom/v1/worker_service.pb.h"
#include "worker/agent/attempt_record.h"
#include "worker/agent/gang_process.h"
#include "worker/agent/runs_folder.h"
#include "worker/agent/verdict.h"

namespace saeloom::agent {

class Attempt {
 public:
  /// What all attempts of a worker have in common. Borrowed: outlives them.
  struct Context {
    sae::Env* env = nullptr;
    sae::Clock* clock = nullptr;
    const RunsFolder* runs = nullptr;
    GangOptions gang;
    int threads = 1;                ///< of each rank
    std::vector<std::string> gpus;  ///< for gangs, one a rank; none: they compute on CPUs
    std::string boot_id;
    std::string incarnation;
    absl::Duration stop_grace = absl::Seconds(20);  ///< to save, for a trial that does not get on
  };

  /// Makes the folder and starts the gang; `lease_deadline` (since boot) goes to the file `lease`.
  /// Ends first what is left on this machine of older attempts of the trial. `taken`: GPUs of other
  /// gangs. Errors: those of Admit and PickGpus; ALREADY_EXISTS when the attempt has run before.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Attempt>> Start(
      const Context& context, const saeloom::v1::StartAttempt& start, absl::Duration lease_deadline,
      const std::set<std::string>& taken = {});
  /// The same for attempts of several trials in one gang, on the slots of one. In the order of
  /// `starts`: those that cannot start leave the gang to the others.
  static std::vector<absl::StatusOr<std::unique_ptr<Attempt>>> StartTogether(
      const Context& context, const std::vector<const saeloom::v1::StartAttempt*>& starts,
      absl::Duration lease_deadline, const std::set<std::string>& taken = {});
  /// By the name of the gang: attempts of one share it.
  using AdoptedGangs = std::map<std::string, std::shared_ptr<GangProcess>>;
  /// An attempt that an earlier incarnation of this worker left open. When its mpirun still lives
  /// it goes on, under its lease; else what is left of it is killed.
  static std::unique_ptr<Attempt> Adopt(const Context& context, const AttemptKey& key,
                                        AdoptedGangs& gangs);

  const AttemptKey& key() const { return key_; }
  std::string directory() const { return context_.runs->AttemptDirectory(key_); }
  std::string events_path() const { return directory() + "/events.jsonl"; }
  /// Of its gang.
  int slots() const { return ended() ? 0 : record_.slots; }
  int ranks() const { return record_.ranks; }
  /// Of its gang, also of an adopted one.
  std::vector<std::string> gpus() const {
    return ended() ? std::vector<std::string>() : record_.gpus;
  }
  /// The same for all attempts of a gang, until they have ended.
  const void* gang() const { return gang_.get(); }
  bool ended() const { return ending_.has_value(); }
  /// Its gang is being killed and has not gone.
  bool leaving() const { return !ended() && gang_->killing(); }
  /// Once ended.
  const Ending& ending() const { return *ending_; }
  const std::vector<std::string>& log_tail() const { return log_tail_; }

  /// No effect once it is being stopped.
  void RenewLease(absl::Duration deadline, absl::Duration kill);
  /// Asks the gang once to save a checkpoint and yield (SIGUSR1 to mpirun); kills it at `kill_at`
  /// (since boot). A gang that has not begun has nothing to save and is killed at once.
  void Notice(StopCause cause, const std::string& reason, absl::Duration kill_at);
  void Kill(StopCause cause, const std::string& reason);
  /// Moves on; call every few tens of milliseconds.
  void Tick();

 private:
  Attempt(const Context& context, AttemptKey key) : context_(context), key_(std::move(key)) {}
  absl::Status Prepare(const saeloom::v1::StartAttempt& start,
                       const sae::config::TrialConfig& config, absl::Duration lease_deadline);
  absl::Status Launched(std::shared_ptr<GangProcess> gang, const std::string& directory);
  absl::Status EndOlderAttempts() const;
  void TakeLease();
  bool HasVerdict();
  /// Asks a gang without a new step within its trial's timeout to yield, and has it killed after.
  void WatchProgress();
  /// Kills a gang over several hosts whose ranks do not meet in time.
  void WatchRendezvous();
  void Stopping(StopCause cause, const std::string& reason);
  void Conclude();
  std::string LauncherOutput() const;
  std::vector<std::string> ReadLogTail() const;

  const Context& context_;
  AttemptKey key_;
  AttemptRecord record_;
  std::shared_ptr<GangProcess> gang_;    ///< shared with the gang's other attempts
  std::string gang_directory_;           ///< where launcher.log is
  absl::Duration next_look_;             ///< at the events, for a verdict
  std::optional<absl::Duration> began_;  ///< when it was first ticked
  bool met_ = false;
  absl::Duration next_progress_look_;
  std::int64_t step_ = -1;                    ///< of the last event seen
  std::optional<absl::Duration> step_since_;  ///< when it was first seen
  bool given_up_ = false;
  StopCause stop_cause_ = StopCause::kNone;
  std::string stop_reason_;
  std::optional<absl::Duration> kill_at_;
  std::optional<Ending> ending_;
  std::vector<std::string> log_tail_;
};

}  // namespace saeloom::agent
