#include "worker/agent/verdict.h"

#include <cstring>
#include <regex>

#include "worker/agent/failure_signs.h"

namespace saeloom::agent {
namespace {
constexpr int kDaemonLost = 205;
using namespace saeloom::v1;  // the failure classes

FailureClass ClassOfExit(int code, bool out_of_memory, bool began) {
  switch (code) {
    case 0:
    case 75:
      return FAILURE_CLASS_UNSPECIFIED;
    case 70:
      return HANG;
    case 78:
      return INVALID_CONFIG;
    case 93:
      return USER_ERROR;
    case 137:
      return out_of_memory ? OOM_HOST : INTERNAL;
    case 205:
    case 243:
      // A gang that had begun lost a host; one that had not never met.
      return began ? NODE_LOST : RENDEZVOUS_TIMEOUT;
    default:
      return INTERNAL;
  }
}

std::string ReasonOfExit(int code, bool out_of_memory, std::optional<int> rank) {
  const std::string who = rank ? absl::StrCat("rank ", *rank) : std::string("the gang");
  switch (code) {
    case 0:
      return "mpirun ended with 0 but the trainer left no verdict";
    case 70:
      return who + " made no progress and ended itself (watchdog)";
    case 75:
      return "the trainer saved a checkpoint and yielded";
    case 78:
      return "the configuration can never run: see the log";
    case 93:
      return "the trainer asks not to be restarted: see the log";
    case 137:
      return out_of_memory ? who +
                                 " was killed for lack of memory: use more ranks, a smaller batch "
                                 "or fewer latents"
                           : who + " was killed (signal 9)";
    case 205:
    case 243:
      return absl::StrCat("mpirun could not start or reach its daemon (exit code ", code, ")");
    default:
      break;
  }
  if (code > 128)
    return absl::StrCat(who, " died of signal ", code - 128, " (", ::strsignal(code - 128), ")");
  return absl::StrCat(who, " ended with exit code ", code);
}

FailureClass ClassOfStop(StopCause cause) {
  switch (cause) {
    case StopCause::kNone:
    case StopCause::kCoordinator:
      return FAILURE_CLASS_UNSPECIFIED;
    case StopCause::kNoProgress:
      return NO_PROGRESS;
    case StopCause::kRendezvous:
      return RENDEZVOUS_TIMEOUT;
    case StopCause::kLease:
    case StopCause::kWorkerRestart:
    case StopCause::kShutdown:
      break;
  }
  return NODE_LOST;
}

}  // namespace

Ending Conclude(const EndingFacts& facts) {
  Ending e;
  // Of a gang that another incarnation started, mpirun's words tell what its exit code would have.
  const std::optional<int> code =
      facts.exit ? facts.exit->ShellCode() : ExitFromLauncher(facts.launcher_output);
  e.exit_code = code.value_or(-1);
  if (facts.last_event && sae::config::IsVerdict(facts.last_event->kind)) {
    e.verdict = ToString(facts.last_event->kind);
    e.reason = facts.last_event->message;
    if (facts.last_event->kind == sae::config::EventKind::kFailed) {
      e.failure_class = ClassOfMessage(e.reason);
      if (e.failure_class == INTERNAL)
        e.failure_class = ClassOfLines(facts.rank_logs).value_or(INTERNAL);
      // The trainer's own code: MPI_Abort may have made another of it.
      const auto own = facts.last_event->values.find("exit_code");
      if (own != facts.last_event->values.end() && own->second > 0 && own->second < 256) {
        e.exit_code = static_cast<int>(own->second);
      }
    }
    const bool done = facts.last_event->kind == sae::config::EventKind::kFinished;
    if (e.reason.empty() && !done) e.reason = facts.stop_reason;
    if (facts.last_event->kind == sae::config::EventKind::kYielded &&
        facts.stop_cause == StopCause::kNoProgress) {
      // That it could still save does not make it a trial that gets on.
      e.failure_class = NO_PROGRESS;
      e.reason = facts.stop_reason;
    }
    return e;
  }
  const bool told = facts.stop_cause == StopCause::kWorkerRestart && !facts.exit && code;
  if (facts.stop_cause != StopCause::kNone && !told) {
    e.reason = facts.stop_reason;
    e.failure_class = ClassOfStop(facts.stop_cause);
    return e;
  }
  if (!code) {
    e.reason = facts.adopted
                   ? "mpirun ended without a word; its exit code went to the worker that started it"
                   : "the worker that ran it is gone";
    e.failure_class = facts.adopted ? INTERNAL : NODE_LOST;
    return e;
  }
  const bool lost = SaysDaemonLost(facts.launcher_output);
  const int meaning = lost ? kDaemonLost : *code;
  e.reason = ReasonOfExit(meaning, facts.out_of_memory, FailedRank(facts.launcher_output));
  if (const std::string why = PeerTrouble(facts.launcher_output); lost && !why.empty())
    absl::StrAppend(&e.reason, ": ", why);
  e.failure_class = ClassOfExit(meaning, facts.out_of_memory, facts.last_event.has_value());
  if (e.failure_class == INTERNAL)
    e.failure_class = ClassOfLines(facts.rank_logs).value_or(INTERNAL);
  return e;
}

std::optional<int> FailedRank(const std::string& launcher_output) {
  // OpenMPI 4.1's three ways to say it.
  static const char* const kPatterns[] = {
      R"(process rank (\d+) with PID)",
      R"(MPI_ABORT was invoked on rank (\d+))",
      R"(Process name: \[\[\d+,\d+\],(\d+)\])",
  };
  std::optional<int> rank;
  std::ptrdiff_t first = static_cast<std::ptrdiff_t>(launcher_output.size());
  for (const char* pattern : kPatterns) {
    std::smatch match;
    if (std::regex_search(launcher_output, match, std::regex(pattern)) &&
        match.position() < first) {
      first = match.position();
      rank = std::stoi(match[1]);
    }
  }
  return rank;
}

}  // namespace saeloom::agent
