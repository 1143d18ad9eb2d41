#include "server/testing/sim_worker.h"

#include <algorithm>

#include "sae/config/events.h"

namespace sae::server::testing {
using config::EventKind;

void SimWorker::Say(const AttemptKey& key, Attempt& attempt, EventKind kind,
                    std::int64_t from_step) {
  config::Event event;
  std::vector<std::string>& lines = disk_->logs[key];
  event.seq = static_cast<std::int64_t>(lines.size()) + 1;
  event.kind = kind;
  event.step = attempt.step;
  event.tokens = attempt.step * 1000;
  event.from_step = from_step;
  if (kind == EventKind::kMetrics) event.values["train.loss"] = static_cast<double>(attempt.step);
  if (kind == EventKind::kCheckpoint) event.checkpoint = "step-" + std::to_string(attempt.step);
  lines.push_back(config::ToJsonLine(event));
  if (config::IsVerdict(kind)) {
    attempt.verdict = config::ToString(kind);
    attempt.running = false;
  }
}

void SimWorker::Run(const AttemptKey& key, Attempt& attempt) {
  if (world_.clock.SinceBoot() > attempt.lease_until) {  // rank 0 looks at the lease itself
    attempt.exit_code = 75;
    return Say(key, attempt, EventKind::kYielded);
  }
  if (world_.Chance(0.3)) return;
  ++attempt.step;
  Say(key, attempt, EventKind::kMetrics);
  if (attempt.step % 4 == 0 || attempt.step >= world_.steps) {
    disk_->checkpoints[{key.sweep, key.trial}] = attempt.step;
    Say(key, attempt, EventKind::kCheckpoint);
  }
  if (attempt.step >= world_.steps) return Say(key, attempt, EventKind::kFinished);
  if (world_.Chance(0.004)) {  // killed: no last word of any trial of the gang
    for (auto& [other, member] : attempts_) {
      if (!member.running || member.gang != attempt.gang) continue;
      member.running = false;
      member.exit_code = 137;
    }
  }
}

int SimWorker::Used() const {
  int used = 0;
  std::set<AttemptKey> gangs;
  for (const auto& [key, attempt] : attempts_)
    used += attempt.running && gangs.insert(attempt.gang).second ? attempt.slots : 0;
  return used;
}

std::vector<AttemptKey> SimWorker::Running() const {
  std::vector<AttemptKey> out;
  for (const auto& [key, attempt] : attempts_) {
    if (attempt.running) out.push_back(key);
  }
  return out;
}

void SimWorker::Start(const StartCommand& command) {
  // Sent again, perhaps: then only what is new of it starts.
  std::vector<const StartCommand*> fresh;
  if (!attempts_.contains(command.key)) fresh.push_back(&command);
  for (const StartCommand& other : command.with) {
    if (!attempts_.contains(other.key)) fresh.push_back(&other);
  }
  if (fresh.empty()) return;
  const bool fits = Used() + command.slots <= slots_;
  most_together_ = std::max(most_together_, fits ? fresh.size() : 0);
  for (const StartCommand* one : fresh) StartOne(*one, fresh[0]->key, fits);
}

void SimWorker::StartOne(const StartCommand& command, const AttemptKey& gang, bool fits) {
  Attempt attempt;
  attempt.slots = command.slots;
  attempt.gang = gang;
  attempt.lease_until = world_.clock.SinceBoot() + world_.lease * 0.8;
  if (!fits) {
    attempt.running = false;
    attempt.refused = true;
  } else {
    attempt.step = disk_->checkpoints[{command.key.sweep, command.key.trial}];
    Say(command.key, attempt, EventKind::kStarted, attempt.step);
    if (attempt.step >= world_.steps) Say(command.key, attempt, EventKind::kFinished);
    TellOlder(command.key);
  }
  attempts_[command.key] = std::move(attempt);
}

void SimWorker::TellOlder(const AttemptKey& key) {
  for (const auto& [older, lines] : disk_->logs) {
    if (older.sweep != key.sweep || older.trial != key.trial || older.attempt >= key.attempt)
      continue;
    Attempt& attempt = attempts_[older];
    attempt.running = false;
    attempt.told = attempt.foreign = true;
    attempt.acknowledged = 0;
  }
}

void SimWorker::Register() {
  if (world_.core == nullptr || world_.Chance(world_.loss)) return;
  RegisterRequest request;
  request.worker_id = id_;
  request.incarnation = std::to_string(incarnation_);
  request.slots = slots_;
  request.runs_directory = "/" + disk_->runs_id;
  request.runs_id = disk_->runs_id;
  for (const auto& [key, attempt] : attempts_) {
    if (!attempt.told) request.attempts.push_back({key, attempt.running});
  }
  const absl::Duration sent = world_.clock.SinceBoot();
  const auto reply = world_.core->Register(request);
  if (!reply.ok() || world_.Chance(world_.loss)) return;
  registered_ = true;
  epoch_ = reply->epoch;
  heartbeat_ = 0;
  for (const AcknowledgedAttempt& a : reply->attempts) {
    Attempt& attempt = attempts_.at(a.key);
    attempt.acknowledged = a.seq;
    attempt.status_id = 0;
    if (a.wanted) {
      attempt.lease_until = sent + world_.lease * 0.8;
    } else {
      attempt.running = false;
      attempt.told = true;
    }
  }
}

void SimWorker::Heartbeat() {
  if (world_.clock.SinceBoot() < next_heartbeat_) return;
  next_heartbeat_ = world_.clock.SinceBoot() + absl::Seconds(1);
  HeartbeatRequest request{Me(), ++heartbeat_, slots_ - Used(), {}};
  for (auto& [key, attempt] : attempts_) {
    if (attempt.told) continue;
    AttemptStatus status;
    status.key = key;
    const bool reported =
        attempt.acknowledged == static_cast<std::int64_t>(disk_->logs[key].size());
    if (attempt.running || (!attempt.refused && !reported)) {
      status.state = AttemptStatus::State::kStarting;
    } else {
      status.state =
          attempt.refused ? AttemptStatus::State::kRefused : AttemptStatus::State::kEnded;
      status.failure_class = attempt.refused ? FailureClass::kNodeLost : FailureClass::kUnspecified;
      status.exit_code = attempt.exit_code;
      status.verdict = attempt.verdict;
      if (attempt.status_id == 0) attempt.status_id = ++status_ids_;
    }
    status.status_id = attempt.status_id;
    request.statuses.push_back(std::move(status));
  }
  if (world_.Chance(world_.loss)) world_.late_heartbeats.push_back(request);
  if (world_.core == nullptr || world_.Chance(world_.loss)) return;
  const absl::Duration sent = world_.clock.SinceBoot();
  const auto reply = world_.core->Heartbeat(request);
  const std::vector<Command> commands =
      reply.ok() ? world_.core->CommandsFor(id_) : std::vector<Command>{};
  if (world_.Chance(world_.loss)) return;
  if (!reply.ok()) {
    registered_ = !absl::IsAborted(reply.status());
    return;
  }
  for (auto& [key, attempt] : attempts_) {
    attempt.lease_until = sent + world_.lease * 0.8;
    for (const std::int64_t ack : reply->status_acks)
      attempt.told = attempt.told || (ack != 0 && ack == attempt.status_id);
  }
  for (const Command& command : commands) {
    if (const auto* start = std::get_if<StartCommand>(&command)) Start(*start);
  }
}

void SimWorker::ReportLines(const AttemptKey& key, Attempt& attempt) {
  const auto from = static_cast<std::size_t>(attempt.acknowledged);
  const std::vector<std::string>& lines = disk_->logs[key];
  if ((attempt.told && !attempt.foreign) || from >= lines.size() || world_.Chance(0.5)) return;
  // Older lines first: they must be there before this attempt can end.
  for (const auto& [other, older] : attempts_) {
    const bool same =
        other.sweep == key.sweep && other.trial == key.trial && other.attempt < key.attempt;
    if (same && older.foreign &&
        older.acknowledged < static_cast<std::int64_t>(disk_->logs[other].size()))
      return;
  }
  ReportRequest request{Me(),
                        key,
                        attempt.acknowledged + 1,
                        {lines.begin() + static_cast<std::ptrdiff_t>(from), lines.end()}};
  if (world_.Chance(world_.loss)) world_.late_reports.push_back(request);
  if (world_.core == nullptr || world_.Chance(world_.loss)) return;
  const bool reply_lost = world_.Chance(world_.loss);
  world_.core->Report(
      request, [this, key, reply_lost, epoch = epoch_](const absl::StatusOr<std::int64_t>& reply) {
        const auto it = attempts_.find(key);
        if (reply_lost || it == attempts_.end() || epoch != epoch_) return;
        if (reply.ok()) {
          it->second.acknowledged = std::max(it->second.acknowledged, *reply);
        } else if (it->second.foreign && absl::IsAborted(reply.status())) {
          it->second.foreign = false;  // the trial has left this worker
        } else if (absl::IsAborted(reply.status()) || absl::IsOutOfRange(reply.status())) {
          registered_ = false;
        }
      });
}

void SimWorker::Tick() {
  for (auto& [key, attempt] : attempts_) {
    if (attempt.running) Run(key, attempt);
  }
  if (!up_) return;
  if (!registered_) return Register();
  Heartbeat();
  for (auto& [key, attempt] : attempts_) ReportLines(key, attempt);
}

void SimWorker::Restart() {
  if (dead_) return;
  up_ = true;
  registered_ = false;
  ++incarnation_;
  for (auto& [key, attempt] : attempts_) {
    attempt.status_id = 0;
    if (!attempt.running) continue;
    attempt.running = false;
    attempt.exit_code = 137;
  }
}

void SimWorker::Die() {
  up_ = false;
  dead_ = true;
  for (auto& [key, attempt] : attempts_) attempt.running = false;
}

}  // namespace sae::server::testing
