#include "worker/agent/agent.h"

#include <algorithm>
#include <spdlog/spdlog.h>

#include "sae/base/failpoint.h"
#include "worker/agent/admission.h"
#include "worker/agent/command_names.h"

namespace saeloom::agent {
namespace {

constexpr std::size_t kClosedRemembered = 1000;
constexpr absl::Duration kReportPause = absl::Milliseconds(100);
// How long a gang may run before the first answer after a start; replaced by the first lease.
constexpr absl::Duration kNever = absl::Hours(24 * 365 * 100);

}  // namespace

Agent::Agent(Options options)
    : options_(std::move(options)),
      session_({.channel = options_.channel,
                .address = options_.coordinator,
                .clock = options_.clock,
                .random = sae::Random(options_.random_seed),
                .advise = options_.advise},
               *this),
      reporter_([this](const auto& request,
                       auto* response) { return session_.Report(request, response); },
                [this] { session_.Reregister(); }),
      logs_([this](const auto& request,
                   auto* response) { return session_.Report(request, response); },
            [this](const AttemptKey& key) {
              sae::MutexLock lock(mu_);
              const auto it = known_.find(key);
              return it != known_.end() && it->second;
            }),
      keeper_({.env = options_.env,
               .clock = options_.clock,
               .runs = options_.runs,
               .answered = [this] { session_.Nudge(); }}) {
  context_.env = options_.env;
  context_.clock = options_.clock;
  context_.runs = options_.runs;
  context_.gang = options_.gang;
  context_.threads = options_.slots.threads;
  context_.gpus = options_.gpus;
  context_.boot_id = options_.boot_id;
  context_.incarnation = options_.incarnation;
  context_.stop_grace = options_.stop_grace;
}

Agent::~Agent() { Stop(); }

absl::Status Agent::Start() {
  SAE_ASSIGN_OR_RETURN(const auto open, options_.runs->OpenAttempts());
  SAE_RETURN_IF_ERROR(AdoptAll(open));
  RemoveAbandonedScratch(*options_.env, *options_.clock, options_.gang);
  Publish();
  loop_thread_ = std::thread([this] { Loop(); });
  report_thread_ = std::thread([this] { ReportLoop(); });
  session_.Start();
  return absl::OkStatus();
}

absl::Status Agent::AdoptAll(const std::vector<AttemptKey>& open) {
  Attempt::AdoptedGangs gangs;
  for (const AttemptKey& key : open) {
    Entry entry;
    entry.attempt = Attempt::Adopt(context_, key, gangs);
    entry.ranks = entry.attempt->ranks();
    TellOlder(key, entry);
    const auto marks =
        ReadLeaseFile(*options_.env, options_.runs->AttemptDirectory(key) + "/lease");
    if (!entry.attempt->ended() && marks) {
      sae::MutexLock lock(mu_);
      lease_.Inherit(marks->notice, marks->kill);
    }
    entries_.emplace(key, std::move(entry));
  }
  // What cannot go on ends before the coordinator hears of this incarnation, so that nothing runs
  // twice.
  const auto leaving = [this] {
    return std::any_of(entries_.begin(), entries_.end(),
                       [](const auto& e) { return e.second.attempt->leaving(); });
  };
  const absl::Duration deadline = options_.clock->SinceBoot() + options_.adopt_timeout;
  while (leaving()) {
    if (options_.clock->SinceBoot() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "processes of an earlier worker in ", options_.runs->directory(), " do not end within ",
          absl::FormatDuration(options_.adopt_timeout),
          " of SIGKILL: see what holds them (ps: state D), then start this worker again"));
    }
    for (auto& [key, entry] : entries_) entry.attempt->Tick();
    if (leaving()) options_.clock->SleepFor(absl::Milliseconds(10));
  }
  return absl::OkStatus();
}

void Agent::BeginShutdown(absl::Duration grace) {
  sae::MutexLock lock(mu_);
  inbox_.emplace_back(ShutdownRequest{grace});
  wake_.NotifyAll();
}

bool Agent::Quiet() const {
  sae::MutexLock lock(mu_);
  return inbox_.empty() &&
         std::none_of(known_.begin(), known_.end(), [](const auto& k) { return k.second; });
}

bool Agent::Idle() const {
  sae::MutexLock lock(mu_);
  return inbox_.empty() && known_.empty() && outbox_.empty();
}

void Agent::Stop() {
  {
    sae::MutexLock lock(mu_);
    if (stopped_) return;
    stopped_ = true;
    inbox_.emplace_back(KillAllRequest{});
    wake_.NotifyAll();
  }
  if (loop_thread_.joinable()) loop_thread_.join();
  keeper_.Stop();
  session_.Stop();
  {
    sae::MutexLock lock(mu_);
    stop_reporting_ = true;
    wake_.NotifyAll();
  }
  if (report_thread_.joinable()) report_thread_.join();
}

// ---- from the session's threads ----

v1::RegisterRequest Agent::MakeRegister() {
  SAE_FAILPOINT("worker.before_register");
  v1::RegisterRequest r;
  r.set_worker_id(options_.runs->worker_id());
  r.set_boot_id(options_.boot_id);
  r.set_incarnation(options_.incarnation);
  r.set_sent_nanos(absl::ToInt64Nanoseconds(options_.clock->SinceBoot()));
  r.set_slots(options_.slots.slots);
  r.set_gpus(options_.slots.gpus);
  r.set_runs_directory(options_.runs->directory());
  r.set_runs_id(options_.runs->runs_id());
  r.set_version(options_.version);
  r.set_address(options_.metrics_address);
  r.set_memory_bytes(options_.memory_bytes);
  r.set_rack(options_.rack);
  r.set_peer_address(options_.peer_address);
  r.set_mpi_host(options_.mpi_host);
  sae::MutexLock lock(mu_);
  // A command that is being carried out shows in known_ when it is done: the coordinator must hear
  // of it.
  while (busy_) published_.Wait(mu_);
  for (const auto& [key, runs] : known_) {
    auto* known = r.add_attempts();
    SetKey(key, known);
    known->set_running(runs);
  }
  return r;
}

void Agent::OnRegistered(const v1::RegisterResponse& response, absl::Duration sent) {
  SAE_FAILPOINT("worker.after_register");
  sae::MutexLock lock(mu_);
  epoch_ = response.epoch();
  lease_.Registered(sent, absl::Seconds(response.lease().seconds()) +
                              absl::Nanoseconds(response.lease().nanos()));
  inbox_.emplace_back(response);
  wake_.NotifyAll();
}

v1::WorkerMessage Agent::MakeHeartbeat() {
  v1::WorkerMessage m;
  m.set_worker_id(options_.runs->worker_id());
  m.set_incarnation(options_.incarnation);
  sae::MutexLock lock(mu_);
  m.set_epoch(epoch_);
  m.set_heartbeat(++heartbeat_);
  lease_.Sent(heartbeat_, options_.clock->SinceBoot());
  m.set_free_slots(std::max(0, options_.slots.slots - used_slots_));
  for (const auto& [id, status] : outbox_) *m.add_statuses() = status;
  for (auto& status : keeper_.Answers()) *m.add_checkpoints() = std::move(status);
  return m;
}

void Agent::OnMessage(const v1::CoordinatorMessage& message) {
  sae::MutexLock lock(mu_);
  if (message.epoch() != epoch_) return;  // of a session that is over
  lease_.Answered(message.heartbeat());
  inbox_.emplace_back(message);
  wake_.NotifyAll();
}

void Agent::OnLost(const absl::Status&) {
  {
    // Commands not yet looked at are void: what we register next is what is true. They will be
    // repeated.
    sae::MutexLock lock(mu_);
    std::erase_if(inbox_, [](const Inbox& item) {
      return std::holds_alternative<v1::CoordinatorMessage>(item);
    });
  }
  reporter_.SetSession(nullptr);
  logs_.SetSession(nullptr);
}

// ---- the report thread ----

void Agent::ReportLoop() {
  for (;;) {
    const bool events = reporter_.Step();
    const bool logs = logs_.Step();
    options_.metrics->Reported(reporter_.reported());
    sae::MutexLock lock(mu_);
    if (stop_reporting_) return;
    if (!events && !logs) wake_.WaitFor(mu_, kReportPause);
    if (stop_reporting_) return;
  }
}

// ---- the loop thread ----

void Agent::Loop() {
  while (!quit_ || AnyRuns() || HoldsAny()) {
    std::vector<Inbox> inbox;
    {
      sae::MutexLock lock(mu_);
      if (inbox_.empty()) wake_.WaitFor(mu_, options_.tick);
      inbox.swap(inbox_);
      busy_ = true;
    }
    for (const Inbox& item : inbox) {
      std::visit([this](const auto& value) { Handle(value); }, item);
    }
    Fence();
    RenewLeases();
    TickAttempts();
    TickReservations();
    Publish();
  }
}

void Agent::Handle(const v1::RegisterResponse& response) {
  const SessionIdentity identity{options_.runs->worker_id(), options_.incarnation,
                                 response.epoch()};
  for (const auto& a : response.attempts()) {
    const auto it = entries_.find(KeyOf(a));
    if (it == entries_.end()) {
      if (!a.wanted() && options_.reservations != nullptr) options_.reservations->End(KeyOf(a));
      continue;
    }
    if (a.wanted()) {
      reporter_.Track(it->first, it->second.attempt->events_path(), a.seq());
      it->second.finish_told = false;
      continue;
    }
    spdlog::info("attempt {}: the coordinator has given it up", it->first.Text());
    it->second.unwanted = true;
    it->second.attempt->Kill(StopCause::kCoordinator, "the coordinator has given it up");
    reporter_.Drop(it->first);
    DropOlder(it->second);
  }
  reporter_.SetSession(&identity);
  logs_.SetSession(&identity);
  options_.metrics->Registered(session_.registrations());
}

void Agent::Handle(const v1::CoordinatorMessage& message) {
  for (const std::int64_t id : message.status_acks()) {
    Acknowledge(id);
    keeper_.Acknowledge(id);
  }
  for (const auto& command : message.commands()) {
    if (const absl::Status names = CheckNames(command); !names.ok()) {
      spdlog::error("left out a command: {}", sae::Message(names));
      if (command.has_start()) RefuseAll(command.start(), names);
      continue;
    }
    if (command.has_start()) Handle(command.start());
    if (command.has_stop()) Handle(command.stop());
    if (command.has_logs()) Handle(command.logs());
    if (command.has_prepare()) Handle(command.prepare());
    if (command.has_release()) Handle(command.release());
    if (command.has_keep()) keeper_.Handle(command.keep());
    if (command.has_delete_checkpoints()) keeper_.Handle(command.delete_checkpoints());
  }
}

void Agent::RefuseAll(const v1::StartAttempt& start, const absl::Status& why) {
  const auto refuse = [&](const v1::StartAttempt& one) {
    if (refused_.count(KeyOf(one)) == 0) SayRefused(KeyOf(one), why);
  };
  refuse(start);
  for (const v1::StartAttempt& other : start.with()) refuse(other);
}

void Agent::Handle(const ShutdownRequest& request) {
  shutting_down_ = true;
  const absl::Duration kill_at = options_.clock->SinceBoot() + request.grace;
  shutdown_at_ = kill_at;
  NoticePeers();
  for (auto& [key, entry] : entries_) {
    entry.stopping = true;
    entry.attempt->Notice(StopCause::kShutdown, "the worker is shutting down", kill_at);
  }
}

void Agent::Handle(const KillAllRequest&) {
  shutting_down_ = true;
  quit_ = true;
  if (options_.reservations != nullptr) options_.reservations->EndAll();
  for (auto& [key, entry] : entries_)
    entry.attempt->Kill(StopCause::kShutdown, "the worker is shutting down");
}

void Agent::Handle(const v1::StartAttempt& start) {
  if (shutting_down_) return;
  // What is new of it: it may have been sent again.
  std::vector<const v1::StartAttempt*> starts;
  const auto add = [&](const v1::StartAttempt& one) {
    const AttemptKey key = KeyOf(one);
    if (entries_.count(key) == 0 && !Closed(key) && refused_.count(key) == 0)
      starts.push_back(&one);
  };
  add(start);
  for (const v1::StartAttempt& other : start.with()) add(other);
  if (starts.empty()) return;
  for (const v1::StartAttempt* one : starts) keeper_.Forget(one->sweep(), one->trial());
  const int need = start.hosts_size() > 0 ? start.hosts(0).slots() : start.slots();
  const bool held = options_.reservations != nullptr && options_.reservations->Take(KeyOf(start));
  StartNew(starts, need);
  // What was made for the reservation goes with it unless a gang has it now.
  const bool begun = std::any_of(starts.begin(), starts.end(), [this](const auto* one) {
    return entries_.count(KeyOf(*one)) > 0;
  });
  if (!held || begun) return;
  options_.env->RemoveAll(ScratchDirectory(options_.gang, KeyOf(start), options_.runs->runs_id()))
      .IgnoreError();
}

void Agent::StartNew(const std::vector<const v1::StartAttempt*>& fresh, int slots) {
  const int free = options_.slots.slots - UsedSlots();
  if (slots > free) {
    for (const v1::StartAttempt* one : fresh) {
      SayRefused(KeyOf(*one), absl::ResourceExhaustedError(
                                  absl::StrCat("needs ", slots, " slots, ", free, " of ",
                                               options_.slots.slots, " are free here")));
    }
    return;
  }
  absl::Duration deadline;
  {
    sae::MutexLock lock(mu_);
    deadline = lease_.NoticeAt().value_or(options_.clock->SinceBoot() + kNever);
  }
  // The command took longer than the lease: the trial may run elsewhere by now.
  if (deadline <= options_.clock->SinceBoot()) return;
  SAE_FAILPOINT("worker.before_start");
  auto attempts = Attempt::StartTogether(context_, fresh, deadline, TakenGpus());
  SAE_FAILPOINT("worker.after_start");
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    if (attempts[i].ok()) {
      Begin(*fresh[i], *std::move(attempts[i]));
    } else {
      SayRefused(KeyOf(*fresh[i]), attempts[i].status());
    }
  }
}

void Agent::Begin(const v1::StartAttempt& start, std::unique_ptr<Attempt> attempt) {
  const AttemptKey key = KeyOf(start);
  Entry entry;
  entry.attempt = std::move(attempt);
  entry.ranks = static_cast<int>(std::max<std::int64_t>(1, start.config().ranks()));
  TellOlder(key, entry);
  reporter_.Track(key, entry.attempt->events_path(), 0);
  options_.metrics->AttemptStarted(entry.ranks, key.attempt > 1);
  entries_.emplace(key, std::move(entry));
  v1::AttemptStatus status;
  SetKey(key, &status);
  status.set_state(v1::AttemptStatus::STATE_STARTING);
  Say(std::move(status));
}

void Agent::Handle(const v1::StopAttempt& stop) {
  const AttemptKey key = KeyOf(stop);
  const auto it = entries_.find(key);
  if (it == entries_.end()) {
    SayNotHere(key, "this worker does not run it");
    return;
  }
  const std::string reason = stop.reason().empty() ? "stopped by the coordinator" : stop.reason();
  it->second.stopping = true;
  if (stop.mode() == v1::StopAttempt::MODE_CHECKPOINT) {
    const absl::Duration grace =
        stop.grace_seconds() > 0 ? absl::Seconds(stop.grace_seconds()) : options_.stop_grace;
    it->second.attempt->Notice(StopCause::kCoordinator, reason,
                               options_.clock->SinceBoot() + grace);
  } else {
    it->second.attempt->Kill(StopCause::kCoordinator, reason);
  }
}

void Agent::Handle(const v1::FetchLogs& fetch) {
  logs_.Fetch(fetch, options_.runs->AttemptDirectory(KeyOf(fetch)));
}

void Agent::Fence() {
  std::optional<absl::Duration> notice, kill;
  {
    sae::MutexLock lock(mu_);
    notice = lease_.NoticeAt();
    kill = lease_.KillAt();
  }
  if (!notice) return;
  const absl::Duration now = options_.clock->SinceBoot();
  options_.metrics->SetLeaseRemaining(absl::ToDoubleSeconds(*kill - now));
  if (now < *notice) {
    fenced_ = false;
    return;
  }
  if (!fenced_ && (AnyRuns() || HoldsAny())) {
    spdlog::warn("the coordinator does not answer: stopping the gangs before the lease ends");
    options_.metrics->Fenced();
  }
  if (!fenced_) NoticePeers();
  fenced_ = true;
  if (now >= *kill && options_.reservations != nullptr) options_.reservations->EndAll();
  for (auto& [key, entry] : entries_) {
    if (now >= *kill) {
      entry.attempt->Kill(StopCause::kLease, "the coordinator did not answer within the lease");
    } else {
      entry.attempt->Notice(StopCause::kLease, "the coordinator did not answer within the lease",
                            *kill);
    }
  }
}

void Agent::RenewLeases() {
  std::optional<absl::Duration> notice, kill;
  {
    sae::MutexLock lock(mu_);
    notice = lease_.NoticeAt();
    kill = lease_.KillAt();
  }
  if (!notice || *notice == lease_written_) return;
  lease_written_ = *notice;
  for (auto& [key, entry] : entries_) entry.attempt->RenewLease(*notice, *kill);
}

void Agent::TickAttempts() {
  std::vector<AttemptKey> to_close;
  for (auto& [key, entry] : entries_) {
    Attempt& attempt = *entry.attempt;
    const bool ran = !attempt.ended();
    attempt.Tick();
    if (!attempt.ended()) continue;
    if (ran) options_.metrics->AttemptEnded(attempt.ending().verdict);
    if (entry.unwanted) {
      to_close.push_back(key);
      continue;
    }
    if (!entry.finish_told) reporter_.Finish(key);
    entry.finish_told = true;
    if (entry.end_status == 0 && reporter_.Done(key) && OlderTold(entry)) SayEnded(entry);
  }
  for (const AttemptKey& key : to_close) Close(key);
}

void Agent::TellOlder(const AttemptKey& key, Entry& entry) {
  for (AttemptKey older{key.sweep, key.trial, 1}; older.attempt < key.attempt; ++older.attempt) {
    if (const auto it = entries_.find(older); it != entries_.end()) {
      if (!it->second.attempt->ended()) continue;
      Close(older);  // it was given up, and has gone
    }
    const std::string path = options_.runs->AttemptDirectory(older) + "/events.jsonl";
    if (!options_.env->Exists(path)) continue;
    reporter_.Track(older, path, 0);  // the coordinator skips what it has
    reporter_.Finish(older);
    entry.older.push_back(older);
  }
}

bool Agent::OlderTold(const Entry& entry) {
  return std::all_of(entry.older.begin(), entry.older.end(),
                     [this](const AttemptKey& k) { return reporter_.Done(k); });
}

void Agent::DropOlder(const Entry& entry) {
  for (const AttemptKey& older : entry.older) reporter_.Drop(older);
}

void Agent::SayEnded(Entry& entry) {
  const Attempt& attempt = *entry.attempt;
  v1::AttemptStatus status;
  SetKey(attempt.key(), &status);
  status.set_state(v1::AttemptStatus::STATE_ENDED);
  status.set_exit_code(attempt.ending().exit_code);
  status.set_verdict(attempt.ending().verdict);
  status.set_reason(attempt.ending().reason);
  status.set_failure_class(attempt.ending().failure_class);
  for (const std::string& line : attempt.log_tail()) status.add_log_tail(line);
  SAE_FAILPOINT("worker.before_status");
  entry.end_status = Say(std::move(status));
  SAE_FAILPOINT("worker.after_status");
  end_statuses_[entry.end_status] = attempt.key();
}

void Agent::SayRefused(const AttemptKey& key, const absl::Status& why) {
  spdlog::warn("attempt {}: refused: {}", key.Text(), why.ToString());
  options_.runs->MarkClosed(key).IgnoreError();
  options_.metrics->AttemptEnded("refused");
  v1::AttemptStatus status;
  SetKey(key, &status);
  status.set_state(v1::AttemptStatus::STATE_REFUSED);
  status.set_reason(sae::Message(why));
  status.set_failure_class(ClassOfRefusal(why));
  refused_.insert(key);
  refused_statuses_[Say(std::move(status))] = key;
}

std::int64_t Agent::Say(v1::AttemptStatus status) {
  std::int64_t id = 0;
  {
    sae::MutexLock lock(mu_);
    id = next_status_++;
    status.set_status_id(id);
    outbox_[id] = std::move(status);
  }
  session_.Nudge();
  return id;
}

void Agent::Acknowledge(std::int64_t status_id) {
  {
    sae::MutexLock lock(mu_);
    if (outbox_.erase(status_id) == 0) return;
  }
  if (const auto it = end_statuses_.find(status_id); it != end_statuses_.end()) {
    const AttemptKey key = it->second;
    end_statuses_.erase(it);
    Close(key);
  }
  if (const auto it = refused_statuses_.find(status_id); it != refused_statuses_.end()) {
    refused_.erase(it->second);
    Remember(it->second);
    refused_statuses_.erase(it);
  }
}

bool Agent::Closed(const AttemptKey& key) const {
  return std::find(closed_.begin(), closed_.end(), key) != closed_.end();
}

void Agent::Close(const AttemptKey& key) {
  reporter_.Drop(key);
  if (const auto it = entries_.find(key); it != entries_.end()) {
    DropOlder(it->second);
    if (it->second.end_status != 0) {
      sae::MutexLock lock(mu_);
      outbox_.erase(it->second.end_status);
    }
    end_statuses_.erase(it->second.end_status);
    entries_.erase(it);
  }
  const absl::Status status = options_.runs->MarkClosed(key);
  if (!status.ok()) spdlog::warn("attempt {}: {}", key.Text(), sae::Message(status));
  Remember(key);
}

void Agent::Remember(const AttemptKey& key) {
  closed_.push_back(key);
  if (closed_.size() > kClosedRemembered) closed_.pop_front();
}

bool Agent::AnyRuns() const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [](const auto& e) { return !e.second.attempt->ended(); });
}

int Agent::UsedSlots() const {
  int used = 0;
  std::set<const void*> gangs;
  for (const auto& [key, entry] : entries_) {
    const Attempt& attempt = *entry.attempt;
    if (!attempt.ended() && gangs.insert(attempt.gang()).second) used += attempt.slots();
  }
  if (options_.reservations != nullptr) used += options_.reservations->slots();
  return used;
}

std::set<std::string> Agent::TakenGpus() const {
  std::set<std::string> taken;
  if (options_.reservations != nullptr) taken = options_.reservations->gpus();
  for (const auto& [key, entry] : entries_) {
    for (const std::string& gpu : entry.attempt->gpus()) taken.insert(gpu);
  }
  return taken;
}

void Agent::Publish() {
  int running = 0, stopping = 0;
  std::set<const void*> gangs;
  for (const auto& [key, entry] : entries_) {
    if (!entry.attempt->ended() && gangs.insert(entry.attempt->gang()).second)
      (entry.stopping ? stopping : running) += entry.ranks;
  }
  const int used = UsedSlots();
  options_.metrics->SetSlots(options_.slots.slots, used);
  options_.metrics->SetRanks(running, stopping);
  std::set<Metrics::GpuUse> gpus;
  for (const auto& [key, entry] : entries_) {
    for (const std::string& gpu : entry.attempt->gpus()) gpus.insert({gpu, key.sweep, key.trial});
  }
  options_.metrics->SetGpus(gpus);
  sae::MutexLock lock(mu_);
  used_slots_ = used;
  known_.clear();
  for (const auto& [key, entry] : entries_) known_[key] = !entry.attempt->ended();
  if (options_.reservations != nullptr) {
    for (const AttemptKey& key : options_.reservations->All()) known_[key] = true;
  }
  busy_ = false;
  published_.NotifyAll();
}

}  // namespace saeloom::agent
