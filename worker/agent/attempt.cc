#include "worker/agent/attempt.h"

#include <algorithm>
#include <csignal>
#include <spdlog/spdlog.h>
#include <utility>

#include "absl/strings/str_join.h"

#include "sae/base/failpoint.h"
#include "sae/base/procfs.h"
#include "worker/agent/admission.h"
#include "worker/agent/begin_from.h"
#include "worker/agent/event_log.h"
#include "worker/agent/gpus.h"
#include "worker/agent/lease.h"
#include "worker/agent/log_tail.h"
#include "worker/rsh/peers_file.h"

namespace saeloom::agent {
namespace {

constexpr std::int64_t kMostLauncherOutput = 64 << 10;
constexpr int kYielded = 75;
constexpr int kLinesForSigns = 100;
/// For a trial that is to leave a gang which goes on.
constexpr absl::Duration kLeaveGrace = absl::Seconds(20);
constexpr absl::Duration kLookEvery = absl::Milliseconds(200);

absl::Status WritePeers(const GangOptions& options, const GangSpec& spec,
                        const std::string& token) {
  rsh::PeersFile peers{.sweep = spec.key.sweep,
                       .trial = spec.key.trial,
                       .attempt = spec.key.attempt,
                       .token = token,
                       .addresses = {},
                       .cert = options.cert,
                       .key = options.key,
                       .ca = options.ca};
  for (const GangHost& host : spec.hosts) peers.addresses[host.mpi_host] = host.peer_address;
  return rsh::WritePeersFile(PeersPath(options, spec), peers);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Attempt>> Attempt::Start(const Context& context,
                                                        const saeloom::v1::StartAttempt& start,
                                                        absl::Duration lease_deadline,
                                                        const std::set<std::string>& taken) {
  return std::move(StartTogether(context, {&start}, lease_deadline, taken)[0]);
}

std::vector<absl::StatusOr<std::unique_ptr<Attempt>>> Attempt::StartTogether(
    const Context& context, const std::vector<const saeloom::v1::StartAttempt*>& starts,
    absl::Duration lease_deadline, const std::set<std::string>& taken) {
  std::vector<absl::StatusOr<std::unique_ptr<Attempt>>> out;
  GangSpec spec;
  spec.runs_id = context.runs->runs_id();
  spec.threads = context.threads;
  std::string token;
  int trials = 0;
  for (const saeloom::v1::StartAttempt* start : starts) {
    auto attempt = std::unique_ptr<Attempt>(new Attempt(context, KeyOf(*start)));
    attempt->record_.slots = start->hosts_size() > 0 ? start->hosts(0).slots() : start->slots();
    attempt->record_.hosts = std::max(1, start->hosts_size());
    attempt->record_.progress_timeout_seconds = start->progress_timeout_seconds();
    const auto config = Admit(*context.env, *start, context.runs->directory());
    absl::Status status = config.status();
    if (config.ok()) attempt->record_.ranks = static_cast<int>(config->ranks);
    if (status.ok()) status = attempt->EndOlderAttempts();
    // The gang is named after the first that could be prepared, and has its ranks.
    if (status.ok() && trials == 0) {
      spec.key = attempt->key_;
      spec.ranks = static_cast<int>(config->ranks);
      const int here = start->hosts_size() > 0 ? start->hosts(0).slots() : spec.ranks;
      auto gpus = PickGpus(context.gpus, taken, context.gpus.empty() ? 0 : here);
      status = gpus.status();
      if (gpus.ok()) spec.gpus = *std::move(gpus);
      auto hosts = HostsOf(*start, spec.ranks);
      status.Update(hosts.status());
      if (hosts.ok()) spec.hosts = *std::move(hosts);
      token = start->token();
    }
    attempt->record_.gpus = spec.gpus;
    if (status.ok() && starts.size() > 1) attempt->record_.gang = spec.key.Text();
    if (status.ok()) status = attempt->Prepare(*start, *config, lease_deadline);
    if (!status.ok()) {
      out.emplace_back(status);
      continue;
    }
    if (trials++ == 0) {
      spec.directory = attempt->directory();
    } else {
      spec.others.push_back(attempt->directory());
    }
    out.emplace_back(std::move(attempt));
  }
  if (trials == 0) return out;
  absl::Status launched = MakeScratch(*context.env, context.gang, spec.key, spec.runs_id);
  if (launched.ok() && !spec.hosts.empty()) launched = WritePeers(context.gang, spec, token);
  std::shared_ptr<GangProcess> gang;
  if (launched.ok()) {
    auto started = GangProcess::Launch(context.gang, spec, trials);
    launched = started.status();
    if (started.ok()) gang = *std::move(started);
  }
  if (!launched.ok()) {
    context.env->RemoveAll(ScratchDirectory(context.gang, spec.key, spec.runs_id)).IgnoreError();
  }
  for (auto& attempt : out) {
    if (!attempt.ok()) continue;
    absl::Status status = launched;
    if (status.ok()) status = (*attempt)->Launched(gang, spec.directory);
    if (status.ok()) continue;
    if (gang != nullptr) gang->TrialEnded(false);  // the others do not wait for it
    attempt = status;
  }
  return out;
}

absl::Status Attempt::EndOlderAttempts() const {
  // The coordinator gave the trial to a new attempt, so the old ones have lost their leases. Gangs
  // of a worker that died on this machine may still be on their way out.
  constexpr int kTries = 500;
  const absl::Duration kPause = absl::Milliseconds(10);
  for (const int n : context_.runs->Attempts(key_)) {
    if (n >= key_.attempt) continue;
    const AttemptKey older{key_.sweep, key_.trial, n};
    const std::string folder = context_.runs->AttemptDirectory(older);
    const auto record = ReadRecord(*context_.env, folder);
    const bool shared = record.ok() && !record->gang.empty();
    // It has left its gang, which may still train other trials.
    const auto last = EventLog(folder + "/events.jsonl").Last();
    if (shared && last && sae::config::IsVerdict(last->kind)) continue;
    const sae::ProcessQuery query{
        .session = 0,
        .marks = GangMarks(shared ? record->gang : older.Text(), context_.runs->runs_id())};
    for (int i = 0; !sae::FindProcesses(query).empty(); ++i) {
      if (i == kTries) {
        return absl::UnavailableError(
            absl::StrCat("processes of attempt ", older.Text(), " do not end"));
      }
      if (sae::SignalProcesses(query, SIGKILL) > 0 && i == 0) {
        spdlog::warn("ended what was left of attempt {}", older.Text());
      }
      context_.clock->SleepFor(kPause);
    }
    if (shared) continue;
    context_.env->RemoveAll(ScratchDirectory(context_.gang, older, context_.runs->runs_id()))
        .IgnoreError();
  }
  return absl::OkStatus();
}

absl::Status Attempt::Prepare(const saeloom::v1::StartAttempt& start,
                              const sae::config::TrialConfig& config,
                              absl::Duration lease_deadline) {
  sae::Env& env = *context_.env;
  if (env.Exists(events_path())) {
    return absl::AlreadyExistsError(
        absl::StrCat("attempt ", key_.Text(), " has run before: ", events_path()));
  }
  SAE_RETURN_IF_ERROR(GoOnFromKept(env, context_.runs->TrialDirectory(key_)));
  if (!start.from_checkpoint().empty()) {
    SAE_RETURN_IF_ERROR(BeginFrom(env, context_.runs->directory(), start.from_checkpoint(),
                                  context_.runs->Checkpoints(key_)));
  }
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory()));
  SAE_RETURN_IF_ERROR(env.MakeDirectories(context_.runs->Checkpoints(key_)));
  SAE_RETURN_IF_ERROR(context_.runs->MarkOpen(key_));
  sae::config::RunConfig run;
  run.store = start.store();
  run.trial = config;
  run.run.directory = directory();
  run.run.checkpoints = context_.runs->Checkpoints(key_);
  run.run.sweep = key_.sweep;
  run.run.trial = key_.trial;
  run.run.attempt = key_.attempt;
  run.run.device = context_.gpus.empty() ? "cpu" : "cuda";
  run.run.threads = context_.threads;
  run.run.lease = true;
  run.run.store_hash = start.store_hash();
  const int keep = start.keep_checkpoints();  // 0: of a coordinator that does not say
  if (keep != 0) run.run.keep_checkpoints = std::max(0, keep);
  SAE_RETURN_IF_ERROR(sae::WriteFileAtomically(env, directory() + "/run.json", ToJson(run) + "\n"));
  SAE_RETURN_IF_ERROR(WriteLeaseFile(env, directory() + "/lease", lease_deadline, lease_deadline));
  record_.sweep = key_.sweep;
  record_.trial = key_.trial;
  record_.attempt = key_.attempt;
  record_.worker_id = context_.runs->worker_id();
  record_.incarnation = context_.incarnation;
  record_.boot_id = context_.boot_id;
  record_.oom_kills = sae::OutOfMemoryKills();
  // Before the gang, so that a crash right after its start is seen by the next incarnation.
  return WriteRecord(env, directory(), record_);
}

absl::Status Attempt::Launched(std::shared_ptr<GangProcess> gang, const std::string& directory) {
  SAE_FAILPOINT("worker.before_record");
  gang_ = std::move(gang);
  gang_directory_ = directory;
  record_.pid = gang_->pid();
  if (const auto info = sae::ReadProcess(static_cast<pid_t>(record_.pid)); info.ok())
    record_.start_ticks = info->start_ticks;
  spdlog::info("attempt {}: started, pid {}{}{}", key_.Text(), record_.pid,
               record_.gpus.empty() ? "" : ", on GPU " + absl::StrJoin(record_.gpus, ","),
               record_.gang.empty() ? "" : ", in the gang of " + record_.gang);
  return WriteRecord(*context_.env, this->directory(), record_);
}

void Attempt::RenewLease(absl::Duration deadline, absl::Duration kill) {
  if (ended() || stop_cause_ != StopCause::kNone) return;
  const absl::Status status = WriteLeaseFile(*context_.env, directory() + "/lease", deadline, kill);
  if (!status.ok()) spdlog::warn("attempt {}: {}", key_.Text(), sae::Message(status));
}

void Attempt::Stopping(StopCause cause, const std::string& reason) {
  if (stop_cause_ != StopCause::kNone) return;  // the first reason is the reason
  stop_cause_ = cause;
  stop_reason_ = reason;
}

void Attempt::TakeLease() {
  // Long past; to the trainer a zero is no deadline.
  constexpr absl::Duration kPast = absl::Nanoseconds(1);
  const absl::Status status = WriteLeaseFile(*context_.env, directory() + "/lease", kPast,
                                             context_.clock->SinceBoot() + kLeaveGrace);
  if (!status.ok()) spdlog::warn("attempt {}: {}", key_.Text(), sae::Message(status));
}

void Attempt::Notice(StopCause cause, const std::string& reason, absl::Duration kill_at) {
  if (ended() || gang_->killing() || gang_->ended()) return;
  if (!EventLog(events_path()).Last()) {
    // Nothing was learned yet, and a rank without its handler would die of the signal anyway.
    Kill(cause, reason);
    return;
  }
  kill_at_ = kill_at_ ? std::min(*kill_at_, kill_at) : kill_at;
  if (stop_cause_ != StopCause::kNone) return;
  Stopping(cause, reason);
  spdlog::info("attempt {}: asked to save and yield: {}", key_.Text(), reason);
  if (cause == StopCause::kCoordinator && gang_->trials() > 1) {
    TakeLease();
  } else {
    gang_->Notice();
  }
}

void Attempt::Kill(StopCause cause, const std::string& reason) {
  if (ended() || gang_->killing() || given_up_) return;
  if (!gang_->ended()) {
    Stopping(cause, reason);
    spdlog::info("attempt {}: killing it: {}", key_.Text(), reason);
  }
  if (cause != StopCause::kCoordinator || gang_->trials() == 1) {
    gang_->Kill();
    return;
  }
  given_up_ = true;
  TakeLease();
  const absl::Duration last = context_.clock->SinceBoot() + kLeaveGrace;
  kill_at_ = kill_at_ ? std::min(*kill_at_, last) : last;
  gang_->GiveUp();
}

// Looked at now and then: it reads a file.
bool Attempt::HasVerdict() {
  const absl::Duration now = context_.clock->SinceBoot();
  if (now < next_look_) return false;
  next_look_ = now + kLookEvery;
  const auto last = EventLog(events_path()).Last();
  return last && sae::config::IsVerdict(last->kind);
}

void Attempt::WatchProgress() {
  const absl::Duration now = context_.clock->SinceBoot();
  if (!(record_.progress_timeout_seconds > 0) || stop_cause_ != StopCause::kNone ||
      gang_->ended() || now < next_progress_look_)
    return;
  next_progress_look_ = now + kLookEvery;
  const auto last = EventLog(events_path()).Last();
  const std::int64_t step = last ? last->step : -1;
  if (!step_since_ || step != step_) {
    step_since_ = now;
    step_ = step;
    return;
  }
  if (now - *step_since_ < absl::Seconds(record_.progress_timeout_seconds)) return;
  Notice(StopCause::kNoProgress,
         absl::StrCat("no new step for ", record_.progress_timeout_seconds,
                      " s (progress_timeout): see the log for what it waits for"),
         now + context_.stop_grace);
}

void Attempt::WatchRendezvous() {
  if (record_.hosts < 2 || met_ || gang_->ended()) return;
  const absl::Duration now = context_.clock->SinceBoot();
  if (!began_) began_ = now;
  // Ranks open their logs when all have met.
  met_ = context_.env->Exists(RankLog(directory(), 0));
  if (met_ || now - *began_ < context_.gang.rendezvous_timeout) return;
  Kill(StopCause::kRendezvous,
       absl::StrCat("the ranks on ", record_.hosts, " hosts did not meet within ",
                    absl::FormatDuration(context_.gang.rendezvous_timeout),
                    ": can the hosts reach each other over MPI's interface (--mpi-interface)?"));
}

void Attempt::Tick() {
  if (ended()) return;
  gang_->Tick();
  WatchRendezvous();
  WatchProgress();
  if (!gang_->killing() && !gang_->ended() && kill_at_ &&
      context_.clock->SinceBoot() >= *kill_at_) {
    stop_reason_ += " (it did not yield in time)";
    spdlog::info("attempt {}: killing its gang: {}", key_.Text(), stop_reason_);
    gang_->Kill();
  }
  if (gang_->gone() || (gang_->trials() > 1 && HasVerdict())) Conclude();
}

std::string Attempt::LauncherOutput() const {
  return ReadFrom(gang_directory_ + "/launcher.log", 0, kMostLauncherOutput);
}

std::vector<std::string> Attempt::ReadLogTail() const {
  return FailureTail(directory(), FailedRank(LauncherOutput()));
}

void Attempt::Conclude() {
  sae::Env& env = *context_.env;
  EndingFacts facts;
  facts.last_event = EventLog(events_path()).Last();
  facts.exit = gang_->exit();
  facts.stop_cause = stop_cause_;
  facts.stop_reason = stop_reason_;
  facts.killed = gang_->killing();
  if (facts.killed && stop_cause_ == StopCause::kNone) {  // not for its own sake
    facts.stop_cause = StopCause::kShutdown;
    facts.stop_reason = "its gang was ended because of another trial";
  }
  // The gang's own count where there is one: another's loss is not its own.
  facts.out_of_memory = gang_->memory_kills() ? *gang_->memory_kills() > 0
                                              : sae::OutOfMemoryKills() > record_.oom_kills;
  facts.adopted = gang_->adopted();
  facts.launcher_output = LauncherOutput();
  for (const int rank : RanksWithLogs(directory())) {
    for (const std::string& line : TailLines(RankLog(directory(), rank), kLinesForSigns))
      absl::StrAppend(&facts.rank_logs, line, "\n");
  }
  ending_ = agent::Conclude(facts);
  // mpirun's code is of all trials together.
  if (!record_.gang.empty() && ending_->verdict == "finished") ending_->exit_code = 0;
  if (!record_.gang.empty() && ending_->verdict == "yielded") ending_->exit_code = kYielded;
  log_tail_ = ReadLogTail();
  spdlog::info("attempt {}: ended: {} (exit code {}) {}", key_.Text(),
               ending_->verdict.empty() ? "no verdict" : ending_->verdict, ending_->exit_code,
               ending_->reason);
  gang_->TrialEnded(given_up_);
  if (gang_->trials() <= 0) {
    const std::string name = record_.gang.empty() ? key_.Text() : record_.gang;
    env.RemoveAll(ScratchDirectory(context_.gang, name, context_.runs->runs_id())).IgnoreError();
  }
  env.RemoveAll(directory() + "/lease").IgnoreError();
  record_.ended = true;
  record_.exit_code = ending_->exit_code;
  record_.verdict = ending_->verdict;
  record_.reason = ending_->reason;
  record_.failure_class = ending_->failure_class;
  if (!env.Exists(directory())) return;  // died before it had a folder
  const absl::Status status = WriteRecord(env, directory(), record_);
  if (!status.ok()) spdlog::warn("attempt {}: {}", key_.Text(), sae::Message(status));
}

}  // namespace saeloom::agent
