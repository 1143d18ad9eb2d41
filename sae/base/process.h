#pragma once
// Child processes: started with posix_spawn in a session of their own, waited for through a pidfd,
// so that neither fork in a threaded program nor SIGCHLD is needed. And finding the programs to
// start. A Process is not thread-safe. It owns the child: destroying it while the child runs kills
// the child's process group and reaps it. Errors: NOT_FOUND (no such program), PERMISSION_DENIED,
// RESOURCE_EXHAUSTED, FAILED_PRECONDITION (it has ended); each names the program.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"

namespace sae {

struct ProcessSpec {
  std::vector<std::string> argv;  ///< argv[0] is a path, never looked up in PATH
  std::map<std::string, std::string>
      environment;                 ///< added to the parent's environment, or in its place
  std::vector<std::string> unset;  ///< variables of the parent's that the child lacks
  std::string directory;           ///< "" = the parent's
  std::string output;              ///< file that gets standard output, appended; "" = the parent's
  std::string errors;              ///< the same for standard error; may be the same file
  bool capture = false;            ///< standard output goes to a pipe instead: output_fd()
  bool new_session = true;         ///< setsid: leads a session and a process group
};

struct ExitStatus {
  int code = 0;    ///< of exit(), when signal == 0
  int signal = 0;  ///< that ended it, or 0
  /// As a shell shows it: the code, or 128 + signal.
  int ShellCode() const { return signal == 0 ? code : 128 + signal; }
};

class Process {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Process>> Spawn(const ProcessSpec& spec);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  /// Blocks at most `timeout` (zero asks, InfiniteDuration waits). nullopt: it still runs. Once it
  /// has ended, every call gives its status.
  [[nodiscard]] absl::StatusOr<std::optional<ExitStatus>> Wait(absl::Duration timeout);
  /// To the process alone. OK also when it has just ended.
  [[nodiscard]] absl::Status Signal(int signal);
  /// To its process group; needs new_session.
  [[nodiscard]] absl::Status SignalGroup(int signal);
  /// Read end of the captured standard output, owned by this object; -1 without `capture`.
  int output_fd() const { return output_fd_; }

 private:
  Process(pid_t pid, int pidfd, int output_fd, bool leads_group)
      : pid_(pid), pidfd_(pidfd), output_fd_(output_fd), leads_group_(leads_group) {}

  pid_t pid_;
  int pidfd_;
  int output_fd_;
  bool leads_group_;
  std::optional<ExitStatus> exit_;
};

struct CapturedRun {
  ExitStatus exit;
  std::string output;
};
/// Runs to the end and returns standard output (at most 1 MiB of it). DEADLINE_EXCEEDED after
/// `timeout`, and then it is killed.
[[nodiscard]] absl::StatusOr<CapturedRun> RunProcess(ProcessSpec spec, absl::Duration timeout);

/// The folder of the running program.
std::string ExecutableDirectory();

/// A program of ours: `flag` when it is not empty, else `name` in `own_directory`, else in
/// own_directory/../libexec/saeloom; never by PATH. NOT_FOUND names the places and `flag_name`.
[[nodiscard]] absl::StatusOr<std::string> FindSibling(const std::string& flag,
                                                      const std::string& flag_name,
                                                      const std::string& name,
                                                      const std::string& own_directory);

/// A program of the system: `flag` when it is not empty, else the first of `path` (folders
/// separated by
/// ':', usually $PATH).
[[nodiscard]] absl::StatusOr<std::string> FindInPath(const std::string& flag,
                                                     const std::string& flag_name,
                                                     const std::string& name,
                                                     const std::string& path);

}  // namespace sae
