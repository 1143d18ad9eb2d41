#include "sae/base/process.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sae/base/check.h"
#include "sae/base/procfs.h"

// Declared by <unistd.h> only for _GNU_SOURCE, which g++ always sets.
extern char** environ;

namespace sae {
namespace {
namespace fs = std::filesystem;

constexpr std::size_t kMaxCaptured = 1 << 20;

/// Environment of the child as "K=V" strings.
std::vector<std::string> ChildEnvironment(const ProcessSpec& spec) {
  std::vector<std::string> out;
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    const std::string entry = *e;
    const std::string key = entry.substr(0, entry.find('='));
    const bool dropped = spec.environment.count(key) > 0 ||
                         std::find(spec.unset.begin(), spec.unset.end(), key) != spec.unset.end();
    if (!dropped) out.push_back(entry);
  }
  for (const auto& [key, value] : spec.environment) out.push_back(key + "=" + value);
  return out;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (std::string& s : strings) out.push_back(s.data());
  out.push_back(nullptr);
  return out;
}

/// posix_spawn's two attribute objects, freed at scope end.
struct SpawnAttributes {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnAttributes() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnAttributes() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
};

void AddStdio(SpawnAttributes& spawn, const ProcessSpec& spec, int capture_fd) {
  constexpr int kAppend = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&spawn.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (capture_fd >= 0) {
    posix_spawn_file_actions_adddup2(&spawn.actions, capture_fd, STDOUT_FILENO);
  } else if (!spec.output.empty()) {
    posix_spawn_file_actions_addopen(&spawn.actions, STDOUT_FILENO, spec.output.c_str(), kAppend,
                                     0644);
  }
  if (!spec.errors.empty()) {
    posix_spawn_file_actions_addopen(&spawn.actions, STDERR_FILENO, spec.errors.c_str(), kAppend,
                                     0644);
  }
  if (!spec.directory.empty()) {
    posix_spawn_file_actions_addchdir_np(&spawn.actions, spec.directory.c_str());
  }
}

/// The child starts with no blocked signal and default actions, whatever this program's threads
/// block.
void AddSignals(SpawnAttributes& spawn, bool new_session) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&spawn.attributes, &none);
  posix_spawnattr_setsigdefault(&spawn.attributes, &all);
  int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (new_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&spawn.attributes, static_cast<short>(flags));
}

int Milliseconds(absl::Duration timeout) {
  if (timeout == absl::InfiniteDuration()) return -1;
  const std::int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<std::int64_t>(ms, 0, INT_MAX));
}

bool IsProgram(const std::string& path) {
  std::error_code ec;
  return fs::is_regular_file(path, ec) && ::access(path.c_str(), X_OK) == 0;
}

absl::StatusOr<std::string> FromFlag(const std::string& flag, const std::string& flag_name) {
  if (IsProgram(flag)) return fs::absolute(flag).string();
  return absl::NotFoundError(
      absl::StrCat(flag_name, " ", flag, " is not a program that can be run"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Spawn(const ProcessSpec& spec) {
  SAE_CHECK(!spec.argv.empty());
  std::vector<std::string> arguments = spec.argv;
  std::vector<std::string> environment = ChildEnvironment(spec);
  int pipe_fds[2] = {-1, -1};
  if (spec.capture && ::pipe2(pipe_fds, O_CLOEXEC) != 0)
    return ErrnoToStatus(errno, "cannot make a pipe");
  SpawnAttributes spawn;
  AddStdio(spawn, spec, pipe_fds[1]);
  AddSignals(spawn, spec.new_session);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, spec.argv[0].c_str(), &spawn.actions, &spawn.attributes,
                                  Pointers(arguments).data(), Pointers(environment).data());
  if (pipe_fds[1] >= 0) ::close(pipe_fds[1]);
  // An unreaped child keeps its pid, so this pidfd is of our child.
  const int pidfd = error == 0 ? PidfdOpen(pid) : -1;
  if (error != 0 || pidfd < 0) {
    const int why = error != 0 ? error : errno;
    if (pipe_fds[0] >= 0) ::close(pipe_fds[0]);
    if (error == 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    return ErrnoToStatus(why, absl::StrCat("cannot start ", spec.argv[0]));
  }
  return std::unique_ptr<Process>(new Process(pid, pidfd, pipe_fds[0], spec.new_session));
}

Process::~Process() {
  if (!exit_) {
    if (leads_group_) ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(pidfd_);
  if (output_fd_ >= 0) ::close(output_fd_);
}

absl::StatusOr<std::optional<ExitStatus>> Process::Wait(absl::Duration timeout) {
  if (exit_) return exit_;
  pollfd p{pidfd_, POLLIN, 0};
  const int ready = ::poll(&p, 1, Milliseconds(timeout));
  if (ready < 0 && errno != EINTR)
    return ErrnoToStatus(errno, absl::StrCat("cannot wait for process ", pid_));
  if (ready <= 0) return std::optional<ExitStatus>();
  int status = 0;
  pid_t reaped = -1;
  while ((reaped = ::waitpid(pid_, &status, WNOHANG)) < 0 && errno == EINTR) {
  }
  if (reaped < 0) return ErrnoToStatus(errno, absl::StrCat("cannot reap process ", pid_));
  if (reaped == 0) return std::optional<ExitStatus>();
  ExitStatus exit;
  if (WIFSIGNALED(status)) {
    exit.signal = WTERMSIG(status);
  } else {
    exit.code = WEXITSTATUS(status);
  }
  exit_ = exit;
  return exit_;
}

absl::Status Process::Signal(int signal) {
  if (exit_) return absl::FailedPreconditionError(absl::StrCat("process ", pid_, " has ended"));
  if (PidfdSignal(pidfd_, signal) == 0 || errno == ESRCH) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("cannot signal process ", pid_));
}

absl::Status Process::SignalGroup(int signal) {
  SAE_CHECK(leads_group_);
  // Unreaped, the leader's pid (and so the group's) cannot be reused; after that it could.
  if (exit_) return absl::FailedPreconditionError(absl::StrCat("process ", pid_, " has ended"));
  if (::kill(-pid_, signal) == 0 || errno == ESRCH) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("cannot signal process group ", pid_));
}

absl::StatusOr<CapturedRun> RunProcess(ProcessSpec spec, absl::Duration timeout) {
  spec.capture = true;
  SAE_ASSIGN_OR_RETURN(const auto process, Process::Spawn(spec));
  const auto end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  const auto left = [&] {
    return std::max(absl::ZeroDuration(), absl::FromChrono(end - std::chrono::steady_clock::now()));
  };
  CapturedRun run;
  char buffer[4096];
  for (;;) {
    pollfd p{process->output_fd(), POLLIN, 0};
    const int ready = ::poll(&p, 1, Milliseconds(left()));
    if (ready == 0) break;
    const ssize_t n = ready < 0 ? -1 : ::read(process->output_fd(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    run.output.append(
        buffer, std::min<std::size_t>(n, kMaxCaptured - std::min(kMaxCaptured, run.output.size())));
  }
  SAE_ASSIGN_OR_RETURN(const auto exit, process->Wait(left()));
  if (!exit) {
    return absl::DeadlineExceededError(
        absl::StrCat(spec.argv[0], " did not end within ", absl::FormatDuration(timeout)));
  }
  run.exit = *exit;
  return run;
}

std::string ExecutableDirectory() {
  std::error_code ec;
  return fs::read_symlink("/proc/self/exe", ec).parent_path().string();
}

absl::StatusOr<std::string> FindSibling(const std::string& flag, const std::string& flag_name,
                                        const std::string& name, const std::string& own_directory) {
  if (!flag.empty()) return FromFlag(flag, flag_name);
  const std::string beside = (fs::path(own_directory) / name).string();
  const std::string libexec =
      (fs::path(own_directory) / "../libexec/saeloom" / name).lexically_normal().string();
  for (const std::string& path : {beside, libexec}) {
    if (IsProgram(path)) return path;
  }
  return absl::NotFoundError(absl::StrCat(name, " is neither ", beside, " nor ", libexec,
                                          ": give its path with ", flag_name));
}

absl::StatusOr<std::string> FindInPath(const std::string& flag, const std::string& flag_name,
                                       const std::string& name, const std::string& path) {
  if (!flag.empty()) return FromFlag(flag, flag_name);
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const std::string folder = path.substr(begin, end - begin);
    if (!folder.empty() && IsProgram(folder + "/" + name)) return folder + "/" + name;
    begin = end + 1;
  }
  return absl::NotFoundError(absl::StrCat(name, " is not in PATH (", path,
                                          "): install it, or give its path with ", flag_name));
}

}  // namespace sae
