#pragma once
// The runs folder: where trials live, who this worker is in it, and which attempts it still owes a
// report.
//   DIR/.saeloom-runs-id                    one id; workers that share DIR share it
//   DIR/.saeloom-workers/NAME/id, lock      an identity, held by at most one process (flock)
//   DIR/.saeloom-workers/NAME/open/S@T@N    an empty file for each attempt whose end is not
//   acknowledged DIR/SWEEP/TRIAL/attempts/N/             run.json events.jsonl rank-R.log
//   launcher.log attempt.json lease DIR/SWEEP/TRIAL/checkpoints/
// Thread-safe after Open (immutable; the file system is the state). Holds the lock until destroyed.
// Errors: ALREADY_EXISTS when another process holds the identity; those of sae::Env.

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/env.h"
#include "sae/base/random.h"
#include "sae/base/status.h"
#include "worker/agent/attempt_key.h"

namespace saeloom::agent {

class RunsFolder {
 public:
  struct Options {
    sae::Env* env = nullptr;
    std::string directory;  ///< made when missing; kept as an absolute path
    std::string name;  ///< of the identity; "" = HOST, HOST-2, HOST-3, ...: the first that is free
    std::string host;  ///< of this machine, for the default name
    absl::Time now;    ///< for new ids
    sae::Random random;  ///< for new ids
  };
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<RunsFolder>> Open(Options options);
  ~RunsFolder();
  RunsFolder(const RunsFolder&) = delete;
  RunsFolder& operator=(const RunsFolder&) = delete;

  const std::string& directory() const { return directory_; }
  const std::string& runs_id() const { return runs_id_; }
  /// NAME and a suffix that makes it unique among workers of other folders; stable over restarts.
  const std::string& worker_id() const { return worker_id_; }

  std::string TrialDirectory(const AttemptKey& key) const;
  std::string AttemptDirectory(const AttemptKey& key) const;
  std::string Checkpoints(const AttemptKey& key) const;
  /// Numbers of the attempts that have a folder, ascending.
  std::vector<int> Attempts(const AttemptKey& key) const;

  [[nodiscard]] absl::Status MarkOpen(const AttemptKey& key) const;
  [[nodiscard]] absl::Status MarkClosed(const AttemptKey& key) const;
  [[nodiscard]] absl::StatusOr<std::vector<AttemptKey>> OpenAttempts() const;

 private:
  RunsFolder(sae::Env& env, std::string directory) : env_(env), directory_(std::move(directory)) {}
  absl::Status LoadRunsId(const Options& options);
  absl::Status TakeIdentity(Options& options);
  absl::Status TryIdentity(const std::string& name, Options& options);
  std::string Marker(const AttemptKey& key) const;

  sae::Env& env_;
  std::string directory_;
  std::string runs_id_;
  std::string identity_directory_;
  std::string worker_id_;
  int lock_fd_ = -1;
};

}  // namespace saeloom::agent
