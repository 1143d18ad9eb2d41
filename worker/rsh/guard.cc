#include "worker/rsh/guard.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "sae/base/signals.h"

namespace saeloom::rsh {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr absl::Duration kPause = absl::Milliseconds(10);
constexpr int kTries = 2000;
constexpr int kKilled = 137;

/// The marks that the worker gave this process.
std::vector<std::string> Marks() {
  std::vector<std::string> marks;
  for (const char* name : {"SAELOOM_ATTEMPT", "SAELOOM_RUNS_ID", "SAELOOM_WORKER"}) {
    const char* value = std::getenv(name);
    if (value == nullptr) return {};  // half of them could be others' marks, too
    marks.push_back(absl::StrCat(name, "=", value));
  }
  return marks;
}

void KillAll() {
  const sae::ProcessQuery query{.session = ::getsid(0), .marks = Marks()};
  for (int i = 0; i < kTries && !sae::FindProcesses(query).empty(); ++i) {
    sae::SignalProcesses(query, SIGKILL);
    sae::RealClock().SleepFor(kPause);
  }
}

}  // namespace

absl::StatusOr<int> RunGuarded(const std::string& parent, const std::string& command) {
  SAE_ASSIGN_OR_RETURN(const auto signals, sae::SignalWatcher::Create({SIGTERM, SIGHUP, SIGINT}));
  // The signal follows the thread that started this process: it waits for it as long as it is
  // wanted.
  if (::prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
    return sae::ErrnoToStatus(errno, "cannot ask for a signal at the parent's death");
  if (absl::StrCat(::getppid()) != parent)
    return absl::FailedPreconditionError(absl::StrCat("process ", parent, " has ended"));
  ::dup2(STDOUT_FILENO, STDERR_FILENO);
  SAE_ASSIGN_OR_RETURN(const auto child, sae::Process::Spawn({.argv = {"/bin/sh", "-c", command},
                                                              .new_session = false}));
  for (;;) {
    SAE_ASSIGN_OR_RETURN(const auto exit, child->Wait(absl::ZeroDuration()));
    if (exit) return exit->ShellCode();
    if (!signals->Wait(kPoll)) continue;
    KillAll();
    return kKilled;
  }
}

}  // namespace saeloom::rsh
