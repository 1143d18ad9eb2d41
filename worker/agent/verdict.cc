#include "worker/agent/verdict.h"

#include <cstring>
#include <regex>

namespace saeloom::agent {
namespace {
using namespace saeloom::v1;  // the failure classes

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

/// By the status code that the trainer's message begins with, as absl prints it, and what it is
/// about.
FailureClass ClassOfMessage(const std::string& m) {
  if (Has(m, "checkpoint") && (Has(m, "DATA_LOSS") || Has(m, "hash"))) return CHECKPOINT_UNREADABLE;
  if (Has(m, "INVALID_ARGUMENT") || Has(m, "UNIMPLEMENTED")) return INVALID_CONFIG;
  if (Has(m, "no progress") || Has(m, "DEADLINE_EXCEEDED")) return HANG;
  if (Has(m, "FAILED_PRECONDITION") || Has(m, "non-finite")) return USER_ERROR;
  if (Has(m, "RESOURCE_EXHAUSTED") && Has(m, "memory")) return OOM_HOST;
  return INTERNAL;
}

FailureClass ClassOfExit(int code, bool out_of_memory) {
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
      return RENDEZVOUS_TIMEOUT;
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
  return cause == StopCause::kNone || cause == StopCause::kCoordinator ? FAILURE_CLASS_UNSPECIFIED
                                                                       : NODE_LOST;
}

}  // namespace

Ending Conclude(const EndingFacts& facts) {
  Ending e;
  e.exit_code = facts.exit ? facts.exit->ShellCode() : -1;
  if (facts.last_event && sae::config::IsVerdict(facts.last_event->kind)) {
    e.verdict = ToString(facts.last_event->kind);
    e.reason = facts.last_event->message;
    if (facts.last_event->kind == sae::config::EventKind::kFailed) {
      e.failure_class = ClassOfMessage(e.reason);
      // The trainer's own code: MPI_Abort may have made another of it.
      const auto code = facts.last_event->values.find("exit_code");
      if (code != facts.last_event->values.end() && code->second > 0 && code->second < 256) {
        e.exit_code = static_cast<int>(code->second);
      }
    }
    const bool done = facts.last_event->kind == sae::config::EventKind::kFinished;
    if (e.reason.empty() && !done) e.reason = facts.stop_reason;
    return e;
  }
  if (facts.stop_cause != StopCause::kNone) {
    e.reason = facts.stop_reason;
    e.failure_class = ClassOfStop(facts.stop_cause);
    return e;
  }
  if (!facts.exit) {
    e.reason = "the worker that ran it is gone";
    e.failure_class = NODE_LOST;
    return e;
  }
  e.reason = ReasonOfExit(e.exit_code, facts.out_of_memory, FailedRank(facts.launcher_output));
  e.failure_class = ClassOfExit(e.exit_code, facts.out_of_memory);
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
