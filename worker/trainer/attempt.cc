#include "worker/trainer/attempt.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "sae/checkpoint/agree.h"
#include "sae/train/event_writer.h"
#include "sae/train/lease.h"
#include "sae/train/run_trial.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/launch.h"
#include "worker/trainer/rank_log.h"
#include "worker/trainer/supervisor.h"

namespace saeloom::trainer {
namespace {
using sae::config::RunConfig;

void PrintOnce(const std::string& message) {
  if (RankFromEnvironment() == 0) std::fprintf(stderr, "saeloom-trainer: %s\n", message.c_str());
}

// Collectives give up a little before the watchdog does: their message names the rank that stays away.
absl::Duration CollectiveDeadline(const RunConfig& config) { return absl::Seconds(0.9 * config.run.watchdog_seconds); }

std::string WrongSize(const RunConfig& config, int size) {
  return absl::StrCat("trial.ranks is ", config.trial.ranks, " but ", size, size == 1 ? " process was" : " processes were",
                      " started: use `mpirun -np ", config.trial.ranks, " saeloom-trainer ...`, or set trial.ranks to ", size);
}

class Attempt {
 public:
  Attempt(sae::Env& env, sae::Clock& clock, const RunConfig& config, Launch& launch)
      : env_(env), clock_(clock), config_(config), launch_(launch) {}

  absl::Status SetUp() {
    sae::comm::Communicator& ranks = launch_.communicator();
    const bool root = ranks.rank() == 0;
    absl::Status status;
    if (root) status = env_.MakeDirectories(config_.run.directory);
    // Until the log is set up, the terminal is told by rank 0 alone.
    if (!root) spdlog::set_level(spdlog::level::off);
    SAE_RETURN_IF_ERROR(sae::checkpoint::Agree(ranks, status));
    status = SetUpRankLog(config_.run.directory, ranks.rank(), StartedByLauncher());
    if (status.ok() && root) {
      auto events = sae::train::EventWriter::Open(env_, clock_, config_.run.directory + "/events.jsonl");
      status = events.status();
      if (status.ok()) events_ = *std::move(events);
    }
    return sae::checkpoint::Agree(ranks, status);
  }

  int Run(sae::SignalWatcher& signals) {
    Supervisor supervisor(SupervisorOptions(signals));
    std::optional<sae::train::LeaseFile> lease;
    if (config_.run.lease && launch_.communicator().rank() == 0) {
      lease.emplace(env_, clock_, config_.run.directory + "/lease");
    }
    sae::train::RunTrialParts parts;
    parts.env = &env_;
    parts.clock = &clock_;
    parts.communicator = &launch_.communicator();
    parts.events = events_.get();
    parts.progress = [&] { supervisor.Progress(); };
    parts.stop_requested = [&] {
      return lease && lease->Passed() ? sae::train::StopReason::kLease : supervisor.StopRequested();
    };
    const absl::StatusOr<sae::train::Outcome> outcome = sae::train::RunTrial(config_, parts);
    if (!outcome.ok()) Fail(outcome.status());
    launch_.Finalize();
    return *outcome == sae::train::Outcome::kFinished ? kDone : kYielded;
  }

  // The last words; the other ranks end through Abort or the launcher.
  [[noreturn]] void Fail(const absl::Status& status) {
    const int code = ExitCodeOf(status);
    spdlog::error("{}", std::string(status.ToString()));
    if (events_) {
      const absl::Status written = events_->Append(Failed(std::string(status.ToString()), code));
      if (!written.ok()) spdlog::error("{}", std::string(written.ToString()));
    }
    launch_.communicator().Abort(std::string(status.ToString()));
    End(code);
  }

 private:
  static sae::config::Event Failed(const std::string& message, int code) {
    sae::config::Event event;
    event.kind = sae::config::EventKind::kFailed;
    event.message = message;
    event.values["exit_code"] = code;
    return event;
  }

  [[noreturn]] static void End(int code) {
    std::fflush(nullptr);
    ::_exit(code);
  }

  Supervisor::Options SupervisorOptions(sae::SignalWatcher& signals) {
    Supervisor::Options options;
    options.signals = &signals;
    options.no_progress = absl::Seconds(config_.run.watchdog_seconds);
    options.end_now = [](int code) { End(code); };
    options.on_stuck = [this](absl::Duration silent) {
      const std::string message = absl::StrCat("DEADLINE_EXCEEDED: no progress for ", absl::ToInt64Seconds(silent),
                                               " s (run.watchdog_seconds): this rank ends");
      spdlog::error("{}", message);
      if (events_) events_->TryAppend(Failed(message, kStuck));
      End(kStuck);
    };
    return options;
  }

  sae::Env& env_;
  sae::Clock& clock_;
  const RunConfig& config_;
  Launch& launch_;
  std::unique_ptr<sae::train::EventWriter> events_;  // rank 0
};

}  // namespace

int RunAttempt(sae::Env& env, sae::Clock& clock, sae::SignalWatcher& signals, const RunConfig& config) {
  if (!StartedByLauncher() && config.trial.ranks != 1) {
    PrintOnce(WrongSize(config, 1));
    return kBadConfig;
  }
  const absl::StatusOr<std::unique_ptr<Launch>> launch = Join(CollectiveDeadline(config));
  if (!launch.ok()) {
    PrintOnce(std::string(launch.status().ToString()));
    return ExitCodeOf(launch.status());
  }
  const int size = (*launch)->communicator().size();
  if (size != config.trial.ranks) {
    PrintOnce(WrongSize(config, size));
    (*launch)->Finalize();
    return kBadConfig;
  }
  Attempt attempt(env, clock, config, **launch);
  if (const absl::Status status = attempt.SetUp(); !status.ok()) attempt.Fail(status);
  return attempt.Run(signals);
}

}  // namespace saeloom::trainer
