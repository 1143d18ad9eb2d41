#include "worker/trainer/attempt.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sae/checkpoint/agree.h"
#include "sae/train/event_writer.h"
#include "sae/train/lease.h"
#include "sae/train/run_gang.h"
#include "sae/train/run_trial.h"
#include "worker/trainer/device.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/launch.h"
#include "worker/trainer/rank_log.h"
#include "worker/trainer/supervisor.h"

namespace saeloom::trainer {
namespace {
namespace fs = std::filesystem;
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

// Several trials share the process's log: it lies in the first one's folder, the others have links to it.
absl::Status LinkRankLog(const std::string& first, const std::string& other, int rank) {
  const std::string name = absl::StrCat("rank-", rank, ".log");
  const fs::path link = fs::path(other) / name;
  std::error_code ec;
  if (fs::exists(fs::symlink_status(link, ec))) return absl::OkStatus();
  fs::create_symlink(fs::absolute(first).lexically_normal().lexically_relative(fs::absolute(other).lexically_normal()) /
                         name,
                     link, ec);
  if (ec) return sae::ErrnoToStatus(ec.value(), sae::ToAbsl("cannot make " + link.string()));
  return absl::OkStatus();
}

class Attempt {
 public:
  Attempt(sae::Env& env, sae::Clock& clock, const std::vector<RunConfig>& configs, Launch& launch)
      : env_(env), clock_(clock), launch_(launch) {
    for (const RunConfig& config : configs) trials_.push_back(std::make_unique<Trial>(config));
  }

  absl::Status SetUp() {
    sae::comm::Communicator& ranks = launch_.communicator();
    const bool root = ranks.rank() == 0;
    absl::Status status;
    for (const auto& trial : trials_) {
      if (root) status.Update(env_.MakeDirectories(trial->directory()));
    }
    // Until the log is set up, the terminal is told by rank 0 alone.
    if (!root) spdlog::set_level(spdlog::level::off);
    SAE_RETURN_IF_ERROR(sae::checkpoint::Agree(ranks, status));
    status = SetUpRankLog(trials_[0]->directory(), ranks.rank(), StartedByLauncher());
    for (const auto& trial : trials_) {
      if (status.ok() && trial != trials_[0])
        status = LinkRankLog(trials_[0]->directory(), trial->directory(), ranks.rank());
      if (!status.ok() || !root) continue;
      auto events = sae::train::EventWriter::Open(env_, clock_, trial->directory() + "/events.jsonl");
      status = events.status();
      if (status.ok()) trial->events = *std::move(events);
    }
    return sae::checkpoint::Agree(ranks, status);
  }

  int Run(sae::SignalWatcher& signals) {
    Supervisor supervisor(SupervisorOptions(signals));
    sae::train::RunTrialParts parts;
    parts.env = &env_;
    parts.clock = &clock_;
    parts.communicator = &launch_.communicator();
    parts.progress = [&] { supervisor.Progress(); };
    sae::train::DeviceParts device;
    if (trials_[0]->config.run.device != "cpu") {
      device = PartsOf(OpenRanksDevice());
      parts.device = &device;
    }
    for (const auto& trial : trials_) {
      if (trial->config.run.lease && parts.communicator->rank() == 0)
        trial->lease.emplace(env_, clock_, trial->directory() + "/lease");
    }
    const auto stop_of = [&](Trial& trial) {
      return [&] {
        return trial.lease && trial.lease->Passed() ? sae::train::StopReason::kLease : supervisor.StopRequested();
      };
    };
    if (trials_.size() > 1) return RunTogether(parts, stop_of);
    parts.events = trials_[0]->events.get();
    parts.stop_requested = stop_of(*trials_[0]);
    const absl::StatusOr<sae::train::Outcome> outcome = sae::train::RunTrial(trials_[0]->config, parts);
    if (!outcome.ok()) Fail(outcome.status());
    launch_.Finalize();
    return *outcome == sae::train::Outcome::kFinished ? kDone : kYielded;
  }

  // The last words; the other ranks end through Abort or the launcher.
  [[noreturn]] void Fail(const absl::Status& status) {
    spdlog::error("{}", std::string(status.ToString()));
    for (const auto& trial : trials_) SayFailed(*trial, status);
    launch_.communicator().Abort(std::string(status.ToString()));
    End(ExitCodeOf(status));
  }

 private:
  struct Trial {
    explicit Trial(const RunConfig& run) : config(run) {}
    const std::string& directory() const { return config.run.directory; }
    const RunConfig& config;
    std::unique_ptr<sae::train::EventWriter> events;  // rank 0
    std::optional<sae::train::LeaseFile> lease;
    std::atomic<bool> ended{false};  // its last word is said
  };

  Device& OpenRanksDevice() {
    const RunConfig& config = trials_[0]->config;
    DeviceOptions options;
    options.device = config.run.device;
    const LocalRanks local = LocalRanksFromEnvironment();
    options.local_rank = local.rank;
    options.local_size = local.size;
    options.deadline = CollectiveDeadline(config);
    auto opened = OpenDevice(launch_.communicator(), options, CudaBackend());
    if (!opened.ok()) Fail(opened.status());
    device_ = *std::move(opened);
    spdlog::info("device {}", device_->description());
    return *device_;
  }

  sae::train::DeviceParts PartsOf(Device& device) {
    sae::train::DeviceParts parts;
    parts.runtime = &device.runtime();
    parts.collectives = &device.communicator();
    parts.stream_ordered = true;
    parts.stream = device.stream();
    return parts;
  }

  template <class StopOf>
  int RunTogether(const sae::train::RunTrialParts& parts, const StopOf& stop_of) {
    std::vector<sae::train::GangTrial> gang;
    for (const auto& trial : trials_) gang.push_back({trial->config, trial->events.get(), stop_of(*trial)});
    const auto outcomes =
        sae::train::RunGang(gang, parts, [&](std::size_t at, const absl::StatusOr<sae::train::Outcome>& outcome) {
          if (outcome.ok()) {
            trials_[at]->ended = true;
            return;
          }
          spdlog::error("trial {}: {}", trials_[at]->config.run.trial, std::string(outcome.status().ToString()));
          SayFailed(*trials_[at], outcome.status());
        });
    int code = kDone;
    for (const auto& outcome : outcomes) {
      // What one trial has, all ranks have agreed on; without the others there is nobody to agree with.
      if (absl::IsAborted(outcome.status()) || absl::IsDeadlineExceeded(outcome.status()) ||
          absl::IsUnavailable(outcome.status())) {
        Fail(outcome.status());
      }
      if (outcome.ok() && *outcome == sae::train::Outcome::kYielded) code = kYielded;
      if (!outcome.ok() && code == kDone) code = ExitCodeOf(outcome.status());
    }
    if (const absl::Status met = launch_.communicator().Barrier(); !met.ok()) Fail(met);
    launch_.Finalize();
    return code;
  }

  static void SayFailed(Trial& trial, const absl::Status& status) {
    if (trial.ended.exchange(true) || trial.events == nullptr) return;
    const absl::Status written =
        trial.events->Append(Failed(std::string(status.ToString()), ExitCodeOf(status)));
    if (!written.ok()) spdlog::error("{}", std::string(written.ToString()));
  }

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
    options.no_progress = absl::Seconds(Watchdog(trials_));
    options.end_now = [](int code) { End(code); };
    options.on_stuck = [this](absl::Duration silent) {
      const std::string message = absl::StrCat("DEADLINE_EXCEEDED: no progress for ", absl::ToInt64Seconds(silent),
                                               " s (run.watchdog_seconds): this rank ends");
      spdlog::error("{}", message);
      for (const auto& trial : trials_) {
        if (!trial->ended && trial->events) trial->events->TryAppend(Failed(message, kStuck));
      }
      End(kStuck);
    };
    return options;
  }

  static double Watchdog(const std::vector<std::unique_ptr<Trial>>& trials) {
    double most = 0;
    for (const auto& trial : trials) most = std::max(most, trial->config.run.watchdog_seconds);
    return most;
  }

  sae::Env& env_;
  sae::Clock& clock_;
  Launch& launch_;
  std::vector<std::unique_ptr<Trial>> trials_;
  std::unique_ptr<Device> device_;  // where the config names one
};

}  // namespace

int RunAttempt(sae::Env& env, sae::Clock& clock, sae::SignalWatcher& signals, const std::vector<RunConfig>& configs) {
  if (const absl::Status gang = sae::train::CheckGang(configs); !gang.ok()) {
    PrintOnce(sae::Message(gang));
    return kBadConfig;
  }
  const RunConfig& config = configs[0];
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
  Attempt attempt(env, clock, configs, **launch);
  if (const absl::Status status = attempt.SetUp(); !status.ok()) attempt.Fail(status);
  return attempt.Run(signals);
}

}  // namespace saeloom::trainer
