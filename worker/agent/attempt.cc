#include "worker/agent/attempt.h"

#include <csignal>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "worker/agent/admission.h"
#include "worker/agent/event_log.h"
#include "worker/agent/lease.h"
#include "worker/agent/log_tail.h"

namespace saeloom::agent {
namespace {

constexpr std::int64_t kMostLauncherOutput = 64 << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<Attempt>> Attempt::Start(const Context& context,
                                                        const saeloom::v1::StartAttempt& start,
                                                        absl::Duration lease_deadline) {
  SAE_ASSIGN_OR_RETURN(const auto config, Admit(*context.env, start, context.runs->directory()));
  auto attempt = std::unique_ptr<Attempt>(new Attempt(context, KeyOf(start)));
  attempt->slots_ = start.slots();
  SAE_RETURN_IF_ERROR(attempt->EndOlderAttempts());
  SAE_RETURN_IF_ERROR(attempt->Prepare(start, config, lease_deadline));
  SAE_RETURN_IF_ERROR(attempt->Launch(static_cast<int>(config.ranks)));
  return attempt;
}

std::unique_ptr<Attempt> Attempt::Adopt(const Context& context, const AttemptKey& key) {
  auto attempt = std::unique_ptr<Attempt>(new Attempt(context, key));
  if (auto record = ReadRecord(*context.env, attempt->directory()); record.ok())
    attempt->record_ = *record;
  attempt->record_.sweep = key.sweep;
  attempt->record_.trial = key.trial;
  attempt->record_.attempt = key.attempt;
  const AttemptRecord& record = attempt->record_;
  if (record.ended) {  // only the report of its end was not acknowledged
    attempt->ending_ = Ending{record.verdict, record.exit_code, record.reason,
                              static_cast<saeloom::v1::FailureClass>(record.failure_class)};
    attempt->log_tail_ = attempt->ReadLogTail();
    return attempt;
  }
  attempt->stop_cause_ = StopCause::kWorkerRestart;
  attempt->stop_reason_ = "the worker was restarted while it ran";
  attempt->killing_ = true;
  return attempt;
}

absl::Status Attempt::EndOlderAttempts() const {
  // The coordinator gave the trial to a new attempt, so the old ones have lost their leases. Gangs
  // of a worker that died on this machine may still be on their way out.
  constexpr int kTries = 500;
  const absl::Duration kPause = absl::Milliseconds(10);
  for (const int n : context_.runs->Attempts(key_)) {
    if (n >= key_.attempt) continue;
    const AttemptKey older{key_.sweep, key_.trial, n};
    const sae::ProcessQuery query{.session = 0,
                                  .marks = GangMarks(older, context_.runs->runs_id())};
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
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory()));
  SAE_RETURN_IF_ERROR(env.MakeDirectories(context_.runs->Checkpoints(key_)));
  SAE_RETURN_IF_ERROR(MakeScratch(env, context_.gang, key_, context_.runs->runs_id()));
  SAE_RETURN_IF_ERROR(context_.runs->MarkOpen(key_));
  sae::config::RunConfig run;
  run.store = start.store();
  run.trial = config;
  run.run.directory = directory();
  run.run.checkpoints = context_.runs->Checkpoints(key_);
  run.run.sweep = key_.sweep;
  run.run.trial = key_.trial;
  run.run.attempt = key_.attempt;
  run.run.threads = context_.threads;
  run.run.lease = true;
  run.run.store_hash = start.store_hash();
  SAE_RETURN_IF_ERROR(sae::WriteFileAtomically(env, directory() + "/run.json", ToJson(run) + "\n"));
  SAE_RETURN_IF_ERROR(WriteLeaseFile(env, directory() + "/lease", lease_deadline));
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

absl::Status Attempt::Launch(int ranks) {
  const GangSpec spec{key_, context_.runs->runs_id(), directory(), ranks, context_.threads};
  SAE_ASSIGN_OR_RETURN(launcher_,
                       sae::Process::Spawn(GangCommand(context_.gang, spec, ::geteuid() == 0)));
  record_.pid = launcher_->pid();
  if (const auto info = sae::ReadProcess(launcher_->pid()); info.ok())
    record_.start_ticks = info->start_ticks;
  spdlog::info("attempt {}: started {} ranks, pid {}", key_.Text(), ranks, record_.pid);
  return WriteRecord(*context_.env, directory(), record_);
}

sae::ProcessQuery Attempt::Members() const {
  // A session's number is not reused while it has members; that of an adopted attempt may have been
  // since.
  return {.session = launcher_ ? launcher_->pid() : 0,
          .marks = GangMarks(key_, context_.runs->runs_id())};
}

void Attempt::RenewLease(absl::Duration deadline) {
  if (ended() || stop_cause_ != StopCause::kNone) return;
  const absl::Status status = WriteLeaseFile(*context_.env, directory() + "/lease", deadline);
  if (!status.ok()) spdlog::warn("attempt {}: {}", key_.Text(), sae::Message(status));
}

void Attempt::Stopping(StopCause cause, const std::string& reason) {
  if (stop_cause_ != StopCause::kNone) return;  // the first reason is the reason
  stop_cause_ = cause;
  stop_reason_ = reason;
}

void Attempt::Notice(StopCause cause, const std::string& reason, absl::Duration kill_at) {
  if (ended() || killing_ || exit_) return;
  if (!EventLog(events_path()).Last()) {
    // Nothing was learned yet, and a rank without its handler would die of the signal anyway.
    Kill(cause, reason);
    return;
  }
  kill_at_ = kill_at_ ? std::min(*kill_at_, kill_at) : kill_at;
  if (stop_cause_ != StopCause::kNone) return;
  Stopping(cause, reason);
  spdlog::info("attempt {}: asked to save and yield: {}", key_.Text(), reason);
  launcher_->Signal(SIGUSR1).IgnoreError();
}

void Attempt::Kill(StopCause cause, const std::string& reason) {
  if (ended() || killing_) return;
  if (!exit_) {
    Stopping(cause, reason);
    spdlog::info("attempt {}: killing it: {}", key_.Text(), reason);
  }
  killing_ = true;
}

void Attempt::Tick() {
  if (ended()) return;
  if (launcher_ && !exit_) {
    if (const auto exit = launcher_->Wait(absl::ZeroDuration()); exit.ok()) exit_ = *exit;
  }
  if (!killing_ && !exit_ && kill_at_ && context_.clock->SinceBoot() >= *kill_at_) {
    Kill(stop_cause_, stop_reason_ + " (it did not yield in time)");
  }
  if (!killing_ && !exit_) return;
  sae::SignalProcesses(Members(), SIGKILL);
  if (launcher_ && !exit_) {
    if (const auto exit = launcher_->Wait(absl::ZeroDuration()); exit.ok()) exit_ = *exit;
    if (!exit_) return;
  }
  if (sae::FindProcesses(Members()).empty()) Conclude();
}

std::string Attempt::LauncherOutput() const {
  return ReadFrom(directory() + "/launcher.log", 0, kMostLauncherOutput);
}

std::vector<std::string> Attempt::ReadLogTail() const {
  return FailureTail(directory(), FailedRank(LauncherOutput()));
}

void Attempt::Conclude() {
  sae::Env& env = *context_.env;
  EndingFacts facts;
  facts.last_event = EventLog(events_path()).Last();
  facts.exit = exit_;
  facts.stop_cause = stop_cause_;
  facts.stop_reason = stop_reason_;
  facts.killed = killing_;
  facts.out_of_memory = sae::OutOfMemoryKills() > record_.oom_kills;
  facts.launcher_output = LauncherOutput();
  ending_ = agent::Conclude(facts);
  log_tail_ = ReadLogTail();
  spdlog::info("attempt {}: ended: {} (exit code {}) {}", key_.Text(),
               ending_->verdict.empty() ? "no verdict" : ending_->verdict, ending_->exit_code,
               ending_->reason);
  env.RemoveAll(ScratchDirectory(context_.gang, key_, context_.runs->runs_id())).IgnoreError();
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
