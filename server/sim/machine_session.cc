// What the daemon and the coordinator say to each other.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "server/sim/machine.h"

namespace sae::server::sim {
namespace {
constexpr absl::Duration kCallTimeout = absl::Seconds(5);
}

void Machine::Reregister() {
  registered_ = false;
  ++session_;
  register_sent_ = -absl::InfiniteDuration();
}

void Machine::Register() {
  const absl::Duration now = Local();
  if (now - register_sent_ < kCallTimeout) return;
  register_sent_ = now;
  const std::int64_t session = ++session_;
  RegisterRequest request;
  request.worker_id = id_;
  request.boot_id = absl::StrCat("boot-", boots_);
  request.incarnation = std::to_string(incarnation_);
  request.slots = slots_;
  request.sent = now;
  request.runs_directory = "/" + disk_->runs_id;
  request.runs_id = disk_->runs_id;
  for (const auto& [key, entry] : entries_) {
    const auto life = lives_.find(key);
    if (!entry.refused && !entry.nothing && !entry.foreign)
      request.attempts.push_back({key, life != lives_.end() && life->second.running});
  }
  for (const auto& [key, held] : held_) request.attempts.push_back({key, true});
  if (peers_) {
    request.peer_address = id_ + ":7000";
    request.mpi_host = id_;
  }
  const auto up = std::make_shared<Stream>(), down = std::make_shared<Stream>();
  world_.network.Up(link_, up, [this, request, session, now, up, down](const auto& coordinator) {
    coordinator->Do([this, request, session, now, up, down, coordinator](Core& core) {
      const auto reply = core.Register(request);
      if (reply.ok()) {
        coordinator->SetSession(id_, [this, session, down](const std::vector<Command>& commands) {
          world_.network.Down(link_, down, [this, session, commands] {
            if (session != session_ || !registered_) return;
            for (const Command& command : commands) Handle(command);
          });
        });
      }
      world_.network.Down(link_, down, [this, reply, session, now, up, down] {
        if (session != session_ || !up_) return;
        if (!reply.ok()) return;
        stream_up_ = up;
        stream_down_ = down;
        Registered(*reply, now);
      });
    });
  });
}

void Machine::Registered(const RegisterReply& reply, absl::Duration sent) {
  if (reply.epoch < epoch_) return;  // an old coordinator that has come back
  Trace(absl::StrCat("registered, epoch ", reply.epoch));
  registered_ = true;
  epoch_ = reply.epoch;
  heartbeat_ = 0;
  next_heartbeat_ = last_answer_ = Local();
  lease_from_ = std::max(lease_from_, sent);
  for (const AcknowledgedAttempt& a : reply.attempts) {
    if (!a.wanted && held_.contains(a.key)) {
      EndHeld(a.key);
      SayNothing(a.key, FailureClass::kRendezvousTimeout);
    }
    const auto it = entries_.find(a.key);
    if (it == entries_.end()) continue;
    it->second.acknowledged = a.seq;
    it->second.report_sent = -absl::InfiniteDuration();
    if (a.wanted) continue;
    it->second.unwanted = true;
    if (const auto life = lives_.find(a.key); life != lives_.end() && life->second.running)
      End(a.key, life->second, 137);
  }
}

bool Machine::OlderTold(const AttemptKey& key) {
  for (const auto& [other, entry] : entries_) {
    const bool older =
        other.sweep == key.sweep && other.trial == key.trial && other.attempt < key.attempt;
    if (older && entry.foreign && !Told(other, entry)) return false;
  }
  return true;
}

bool Machine::Told(const AttemptKey& key, const Entry& entry) {
  const auto lines = world_.history.lines.find(key);
  return lines == world_.history.lines.end() ||
         entry.acknowledged >= static_cast<std::int64_t>(lines->second.size());
}

std::vector<AttemptStatus> Machine::Statuses() {
  std::vector<AttemptStatus> out;
  for (const auto& [key, held] : held_) {
    if (held.told) continue;
    AttemptStatus& status = out.emplace_back();
    status.key = key;
    status.state = AttemptStatus::State::kPrepared;
    status.status_id = held.status_id;
  }
  for (auto& [key, entry] : entries_) {
    if (entry.foreign || entry.unwanted) continue;
    AttemptStatus status;
    status.key = key;
    const auto life = lives_.find(key);
    const bool running = life != lives_.end() && life->second.running;
    if (entry.refused || entry.nothing) {
      status.state = entry.refused ? AttemptStatus::State::kRefused : AttemptStatus::State::kEnded;
      status.failure_class = entry.refused ? FailureClass::kNodeLost : entry.failure_class;
      status.exit_code = -1;
      status.reason = entry.reason;
    } else if (!running && Told(key, entry) && OlderTold(key)) {
      status.state = AttemptStatus::State::kEnded;
      status.exit_code = life->second.exit_code;
      status.verdict = life->second.verdict;
      status.failure_class = life->second.failure_class;
    } else if (!entry.starting_told) {
      status.state = AttemptStatus::State::kStarting;
      if (entry.starting_id == 0) entry.starting_id = ++status_ids_;
      status.status_id = entry.starting_id;
      out.push_back(std::move(status));
      continue;
    } else {
      continue;
    }
    if (entry.status_id == 0) entry.status_id = ++status_ids_;
    status.status_id = entry.status_id;
    out.push_back(std::move(status));
  }
  return out;
}

void Machine::Heartbeat() {
  const absl::Duration now = Local();
  next_heartbeat_ = now + world_.heartbeat;
  const HeartbeatRequest request{Me(), ++heartbeat_, std::max(0, slots_ - Used()), Statuses()};
  const std::int64_t session = session_;
  // The connection may have broken after this was sent: then it comes late, beside a newer session.
  const bool late = world_.Chance(link_.repeat);
  const auto deliver = [this, request, session, now, down = stream_down_](const auto& coordinator) {
    coordinator->Do([this, request, session, now, down](Core& core) {
      const auto reply = core.Heartbeat(request);
      const std::vector<Command> commands =
          reply.ok() ? core.CommandsFor(id_) : std::vector<Command>{};
      world_.network.Down(link_, down, [this, reply, commands, session, now] {
        if (session != session_ || !registered_) return;
        if (!reply.ok()) {
          if (absl::IsAborted(reply.status())) Reregister();
          return;
        }
        Answered(*reply, now);
        for (const Command& command : commands) Handle(command);
      });
    });
  };
  world_.network.Up(link_, stream_up_, deliver);
  if (late) {
    world_.queue.After(world_.Upto(world_.lease),
                       [this, deliver] { world_.network.Up(link_, nullptr, deliver); });
  }
}

void Machine::Answered(const HeartbeatReply& reply, absl::Duration sent) {
  last_answer_ = Local();
  lease_from_ = std::max(lease_from_, sent);
  std::vector<AttemptKey> ended;
  for (auto& [key, entry] : entries_) {
    for (const std::int64_t ack : reply.status_acks) {
      if (ack == 0) continue;
      if (ack == entry.starting_id) entry.starting_told = true;
      if (ack == entry.status_id) ended.push_back(key);
    }
  }
  for (auto& [key, held] : held_) {
    const auto& acks = reply.status_acks;
    held.told = held.told || std::find(acks.begin(), acks.end(), held.status_id) != acks.end();
  }
  for (const AttemptKey& key : ended) Close(key);
}

void Machine::Report(const AttemptKey& key, Entry& entry) {
  if (entry.refused || entry.nothing || entry.unwanted || Told(key, entry)) return;
  if (Local() - entry.report_sent < kCallTimeout || !OlderTold(key)) return;
  entry.report_sent = Local();
  const std::vector<std::string>& lines = Lines(key);
  ReportRequest request{
      Me(),
      key,
      entry.acknowledged + 1,
      {lines.begin() + static_cast<std::ptrdiff_t>(entry.acknowledged), lines.end()}};
  const std::int64_t session = session_;
  world_.network.Up(link_, nullptr, [this, request, session](const auto& coordinator) {
    coordinator->Do([this, request, session](Core& core) {
      core.Report(request,
                  [this, key = request.key, session](const absl::StatusOr<std::int64_t>& reply) {
                    world_.network.Down(link_, nullptr, [this, key, session, reply] {
                      if (reply.ok()) world_.history.acknowledged.push_back({key, *reply});
                      if (session == session_ && up_) Reported(key, reply);
                    });
                  });
    });
  });
}

void Machine::Reported(const AttemptKey& key, const absl::StatusOr<std::int64_t>& reply) {
  const auto it = entries_.find(key);
  if (it == entries_.end()) return;
  it->second.report_sent = -absl::InfiniteDuration();
  if (reply.ok()) {
    it->second.acknowledged = std::max(it->second.acknowledged, *reply);
    if (it->second.foreign && Told(key, it->second)) closed_.insert(key);
  } else if (it->second.foreign && absl::IsAborted(reply.status())) {
    entries_.erase(it);  // the trial has left this worker
  } else if (absl::IsAborted(reply.status()) || absl::IsOutOfRange(reply.status())) {
    Reregister();
  } else {
    it->second.report_sent = Local();  // a while later
  }
}

}  // namespace sae::server::sim
