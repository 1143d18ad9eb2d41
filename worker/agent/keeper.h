#pragma once
// Keeps and deletes checkpoints as the coordinator commands, on a thread of its own: a copy or a
// removal may take minutes, and leases must be renewed meanwhile. A command that comes again while
// it is carried out, or while its answer has not been acknowledged, is left out; one that failed is
// tried again when it comes later than `retry_after`. Thread-safe.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "saeloom/v1/worker_service.pb.h"
#include "worker/agent/checkpoint_files.h"
#include "worker/agent/runs_folder.h"

namespace saeloom::agent {

class Keeper {
 public:
  struct Options {
    sae::Env* env = nullptr;
    sae::Clock* clock = nullptr;
    const RunsFolder* runs = nullptr;
    /// Called after each answer, from the keeper's thread; may be null.
    std::function<void()> answered;
    LinkFile link = HardLink;
    absl::Duration retry_after = absl::Seconds(30);
  };
  explicit Keeper(Options options);
  ~Keeper();

  /// The names have been looked at (command_names.h).
  void Handle(const saeloom::v1::KeepCheckpoint& command);
  void Handle(const saeloom::v1::DeleteCheckpoints& command);
  /// An attempt of the trial begins, and may write anew what was to go: deletions that have not
  /// begun are left out. The coordinator repeats those that it still wants.
  void Forget(const std::string& sweep, const std::string& trial);
  /// Answers that were not acknowledged, for every heartbeat. Their ids are far above those of
  /// attempts.
  std::vector<saeloom::v1::CheckpointStatus> Answers() const;
  void Acknowledge(std::int64_t status_id);
  /// Nothing is to be done any more.
  void WaitUntilIdle();
  /// After what is being done. Idempotent.
  void Stop();

 private:
  struct Task {
    std::string sweep, trial, name;
    int attempt = 0;
    bool remove = false;
    bool kept_only = false;  ///< with remove
    auto operator<=>(const Task&) const = default;
  };
  void Add(const Task& task);
  void Loop();
  saeloom::v1::CheckpointStatus Do(const Task& task) const;

  const Options options_;
  mutable sae::Mutex mu_;
  sae::CondVar wake_, done_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mu_);
  std::map<Task, std::int64_t> open_
      ABSL_GUARDED_BY(mu_);  ///< queued or not acknowledged: id, or 0
  std::map<Task, absl::Duration> failed_ ABSL_GUARDED_BY(mu_);
  std::map<std::int64_t, saeloom::v1::CheckpointStatus> answers_ ABSL_GUARDED_BY(mu_);
  std::int64_t next_id_ ABSL_GUARDED_BY(mu_) = std::int64_t{1} << 40;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace saeloom::agent
