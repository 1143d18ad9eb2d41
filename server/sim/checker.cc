#include "server/sim/checker.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "sae/config/events.h"
#include "server/sim/log_model.h"

namespace sae::server::sim {
namespace {

std::string At(absl::Duration t) { return absl::StrCat(" at ", absl::FormatDuration(t)); }

std::string Where(const LogEvent& event) {
  return absl::StrCat(event.sweep, event.trial.empty() ? "" : "/", event.trial, " seq ", event.seq,
                      " ", KindOf(event.body));
}

/// Where in the log the next events are, of those that are durable at `t`.
std::size_t DurableAt(const History& h, absl::Duration t) {
  return static_cast<std::size_t>(std::upper_bound(h.committed.begin(), h.committed.end(), t) -
                                  h.committed.begin());
}

}  // namespace

Breaches CheckOneLiveAttempt(const History& history) {
  Breaches out;
  std::map<std::pair<std::string, std::string>, std::vector<const ProcessLife*>> by_trial;
  for (const ProcessLife& p : history.processes) by_trial[{p.key.sweep, p.key.trial}].push_back(&p);
  for (auto& [trial, lives] : by_trial) {
    std::sort(lives.begin(), lives.end(),
              [](const auto* a, const auto* b) { return a->start < b->start; });
    const ProcessLife* longest = nullptr;  // of those before
    for (const ProcessLife* life : lives) {
      // Peers of a gang over several workers are one attempt.
      if (longest != nullptr && life->start < longest->end && life->key != longest->key) {
        out.push_back(absl::StrCat(ToString(life->key), " on ", life->worker, " starts",
                                   At(life->start), " while ", ToString(longest->key), " on ",
                                   longest->worker, " lives"));
      }
      if (longest == nullptr || life->end > longest->end) longest = life;
    }
  }
  return out;
}

namespace {

void CheckSlotsOfLog(const History& history, Breaches& out) {
  ReadLog(history.log, nullptr, [&](const LogModel& model, const LogEvent& event, std::size_t) {
    const auto* allocated = std::get_if<AttemptAllocated>(&event.body);
    if (allocated == nullptr) return;
    std::vector<HostShare> hosts = allocated->hosts;
    if (hosts.empty()) hosts.push_back({allocated->worker, allocated->slots});
    for (const HostShare& host : hosts) {
      const auto slots = history.slots.find(host.worker);
      const int used = model.OnWorker(host.worker);
      if (slots != history.slots.end() && used > slots->second) {
        out.push_back(absl::StrCat(Where(event), ": ", used, " of ", slots->second, " slots of ",
                                   host.worker, " are allocated"));
      }
    }
  });
}

void CheckSlotsOfMachines(const History& history, Breaches& out) {
  for (const ProcessLife& start : history.processes) {
    std::map<std::string, int> gangs;
    for (const ProcessLife& p : history.processes) {
      if (p.worker == start.worker && p.start <= start.start && start.start < p.end)
        gangs[p.gang] = p.slots;
    }
    int used = 0;
    for (const auto& [gang, slots] : gangs) used += slots;
    const auto slots = history.slots.find(start.worker);
    if (slots != history.slots.end() && used > slots->second) {
      out.push_back(absl::StrCat(ToString(start.key), ": ", used, " of ", slots->second,
                                 " slots of ", start.worker, " are in use", At(start.start)));
    }
  }
}

bool LiveInLog(const LogModel& model, const AttemptKey& key) {
  const TrialModel* trial = model.trial(key.sweep, key.trial);
  const AttemptModel* live = trial == nullptr ? nullptr : trial->live();
  return live != nullptr && live->number == key.attempt;
}

/// What runs on a machine although the log has given it up keeps its slots until it is gone.
void CheckSlotsNow(const History& history, const LogModel& model, const LogEvent& event,
                   absl::Duration now, const std::string& worker, Breaches& out) {
  std::map<std::string, int> given_up;
  for (const ProcessLife& p : history.processes) {
    if (p.worker == worker && p.start <= now && now < p.end && !LiveInLog(model, p.key))
      given_up[p.gang] = p.slots;
  }
  // A gang of which some trial is live counts by the log.
  for (const ProcessLife& p : history.processes) {
    if (p.start <= now && now < p.end && LiveInLog(model, p.key)) given_up.erase(p.gang);
  }
  int used = model.OnWorker(worker);
  for (const auto& [gang, slots] : given_up) used += slots;
  const auto slots = history.slots.find(worker);
  if (slots != history.slots.end() && used > slots->second) {
    out.push_back(absl::StrCat(Where(event), ": with what still runs there ", used, " of ",
                               slots->second, " slots of ", worker, " are taken", At(now)));
  }
}

void CheckSlotsOfBoth(const History& history, Breaches& out) {
  if (history.committed.empty()) return;
  ReadLog(history.log, nullptr, [&](const LogModel& model, const LogEvent& event, std::size_t i) {
    const auto* allocated = std::get_if<AttemptAllocated>(&event.body);
    if (allocated == nullptr) return;
    const absl::Duration now = history.committed[i];
    if (allocated->hosts.empty()) CheckSlotsNow(history, model, event, now, allocated->worker, out);
    for (const HostShare& host : allocated->hosts)
      CheckSlotsNow(history, model, event, now, host.worker, out);
  });
}

}  // namespace

Breaches CheckSlots(const History& history) {
  Breaches out;
  CheckSlotsOfLog(history, out);
  CheckSlotsOfMachines(history, out);
  CheckSlotsOfBoth(history, out);
  return out;
}

Breaches CheckClientOperations(const History& history) {
  Breaches out;
  std::map<std::string, std::vector<std::size_t>> created;  // points
  std::map<std::string, int> cancelled;
  std::map<std::pair<std::string, std::string>, int> retried;
  for (const LogEvent& event : history.log) {
    if (const auto* e = std::get_if<SweepCreated>(&event.body))
      created[event.sweep].push_back(e->points.size());
    if (std::holds_alternative<CancelRequested>(event.body)) ++cancelled[event.sweep];
    if (std::holds_alternative<TrialRetried>(event.body)) ++retried[{event.sweep, event.trial}];
  }
  std::map<std::string, std::set<std::string>> submitters;
  std::map<std::string, int> retries;
  for (const ClientOp& op : history.operations) {
    if (op.kind == ClientOp::Kind::kSubmit) submitters[op.sweep].insert(op.request_id);
    if (op.kind == ClientOp::Kind::kRetry && op.outcome != ClientOp::Outcome::kRefused)
      ++retries[op.sweep];
  }
  for (const auto& [sweep, points] : created) {
    if (points.size() > 1)
      out.push_back(absl::StrCat("sweep ", sweep, " was created ", points.size(), " times"));
    if (!submitters.contains(sweep))
      out.push_back(absl::StrCat("sweep ", sweep, " was created, nobody submitted it"));
  }
  for (const ClientOp& op : history.operations) {
    const bool ok = op.outcome == ClientOp::Outcome::kOk;
    if (op.kind == ClientOp::Kind::kSubmit && ok) {
      const auto it = created.find(op.sweep);
      if (it == created.end()) {
        out.push_back(absl::StrCat("submit of ", op.sweep, " was acknowledged and is lost"));
      } else if (it->second.front() != op.points) {
        out.push_back(absl::StrCat("sweep ", op.sweep, " has ", it->second.front(), " points, ",
                                   op.points, " were submitted"));
      }
    }
    if (op.kind == ClientOp::Kind::kSubmit && op.outcome == ClientOp::Outcome::kRefused &&
        op.code == absl::StatusCode::kAlreadyExists && submitters[op.sweep].size() == 1) {
      out.push_back(absl::StrCat("submit of ", op.sweep,
                                 " was refused because of itself: its request id is not known"));
    }
    if (op.kind == ClientOp::Kind::kRetry && ok) {
      for (const std::string& trial : op.trials) {
        if (!retried.contains({op.sweep, trial})) {
          out.push_back(absl::StrCat("retry of ", op.sweep, "/", trial,
                                     " was acknowledged and is not in the log"));
        }
      }
    }
  }
  for (const auto& [trial, times] : retried) {
    if (times > retries[trial.first]) {
      out.push_back(absl::StrCat(trial.first, "/", trial.second, " was retried ", times,
                                 " times, asked for ", retries[trial.first]));
    }
  }
  for (const ClientOp& op : history.operations) {
    if (op.kind == ClientOp::Kind::kCancel && op.outcome == ClientOp::Outcome::kOk &&
        cancelled[op.sweep] == 0) {
      out.push_back(
          absl::StrCat("cancel of ", op.sweep, " was acknowledged and is not in the log"));
    }
  }
  return out;
}

namespace {

using StepKey = std::tuple<std::string, std::string, int, std::int64_t, bool>;

/// Steps of an attempt beyond this one are superseded.
std::int64_t EffectiveUpTo(const TrialModel& trial, int attempt) {
  std::int64_t limit = std::numeric_limits<std::int64_t>::max();
  for (const AttemptModel& later : trial.attempts) {
    if (later.number > attempt && later.from_step >= 0) limit = std::min(limit, later.from_step);
  }
  return limit;
}

}  // namespace

Breaches CheckReports(const History& history) {
  Breaches out;
  LogModel model = ReadLog(history.log, nullptr, nullptr);
  std::map<StepKey, int> points;
  std::map<std::tuple<std::string, std::string, int, std::string>, int> checkpoints;
  for (const LogEvent& event : history.log) {
    if (const auto* p = std::get_if<Point>(&event.body)) {
      if (++points[{event.sweep, event.trial, p->attempt, p->step, p->evaluation}] == 2)
        out.push_back(absl::StrCat(Where(event), ": step ", p->step, " of attempt ", p->attempt,
                                   " is there twice"));
    }
    if (const auto* c = std::get_if<CheckpointSaved>(&event.body)) {
      if (++checkpoints[{event.sweep, event.trial, c->attempt, c->name}] == 2)
        out.push_back(absl::StrCat(Where(event), ": checkpoint ", c->name, " of attempt ",
                                   c->attempt, " is there twice"));
    }
  }
  std::map<AttemptKey, std::int64_t> newest;
  for (const AcknowledgedLines& a : history.acknowledged)
    newest[a.key] = std::max(newest[a.key], a.seq);
  for (const auto& [key, seq] : newest) {
    const TrialModel* trial = model.trial(key.sweep, key.trial);
    const auto lines = history.lines.find(key);
    if (trial == nullptr || lines == history.lines.end()) {
      out.push_back(absl::StrCat(ToString(key), ": lines were acknowledged of an unknown attempt"));
      continue;
    }
    const std::int64_t limit = EffectiveUpTo(*trial, key.attempt);
    for (std::size_t i = 0; i < lines->second.size() && static_cast<std::int64_t>(i) < seq; ++i) {
      const auto event = config::ParseEvent(lines->second[i]);
      if (!event.ok() || event->step > limit) continue;
      const bool evaluation = event->kind == config::EventKind::kEvaluation;
      const bool point = evaluation || event->kind == config::EventKind::kMetrics;
      if (point && !points.contains({key.sweep, key.trial, key.attempt, event->step, evaluation}))
        out.push_back(absl::StrCat(ToString(key), ": line ", i + 1, ", step ", event->step,
                                   ", was acknowledged and is lost"));
      if (event->kind == config::EventKind::kCheckpoint &&
          !checkpoints.contains({key.sweep, key.trial, key.attempt, event->checkpoint}))
        out.push_back(absl::StrCat(ToString(key), ": checkpoint ", event->checkpoint,
                                   " was acknowledged and is lost"));
    }
  }
  return out;
}

Breaches CheckStarts(const History& history) {
  Breaches out;
  std::vector<const ProcessLife*> starts;
  for (const ProcessLife& p : history.processes) starts.push_back(&p);
  std::sort(starts.begin(), starts.end(),
            [](const auto* a, const auto* b) { return a->start < b->start; });
  std::map<std::pair<AttemptKey, std::string>, int> before;
  LogModel model;
  std::size_t at = 0;
  if (history.committed.empty()) {
    model = ReadLog(history.log, nullptr, nullptr);
    at = history.log.size();
  }
  for (const ProcessLife* p : starts) {
    for (const std::size_t end = DurableAt(history, p->start); at < end; ++at) {
      if (!history.log[at].telemetry()) model.Apply(history.log[at], at);
    }
    const TrialModel* trial = model.trial(p->key.sweep, p->key.trial);
    const AttemptModel* attempt = trial == nullptr ? nullptr : trial->attempt(p->key.attempt);
    const int times = ++before[{p->key, p->worker}];
    const std::string what = absl::StrCat(ToString(p->key), " starts on ", p->worker, At(p->start));
    if (attempt == nullptr) {
      out.push_back(absl::StrCat(what, ", it was never allocated"));
      continue;
    }
    const bool there = std::any_of(attempt->hosts.begin(), attempt->hosts.end(),
                                   [&](const HostShare& host) { return host.worker == p->worker; });
    if (!there) out.push_back(absl::StrCat(what, ", it was allocated to ", attempt->worker));
    if (history.committed.empty()) {
      if (times > 1) out.push_back(absl::StrCat(what, ", for the second time"));
      continue;
    }
    // A gang that was lost with one of its peers may be told to start just then, while nothing
    // newer of its trial may.
    const bool lost_meanwhile = attempt->hosts.size() > 1 && attempt->prepared &&
                                attempt->number == static_cast<int>(trial->attempts.size());
    if (attempt->ended && !lost_meanwhile) out.push_back(absl::StrCat(what, ", it had ended"));
    if (times > 1 && attempt->started)
      out.push_back(
          absl::StrCat(what, ", for the second time, and the coordinator knew the first"));
  }
  return out;
}

namespace {

/// Each host of the gang had held slots for it by then.
void CheckPrepared(const History& history, const LogModel& model, const LogEvent& event,
                   std::size_t at, Breaches& out) {
  const TrialModel* trial = model.trial(event);
  const AttemptModel* live = trial == nullptr ? nullptr : trial->live();
  if (live == nullptr || history.committed.empty()) return;
  const AttemptKey key{event.sweep, event.trial, live->number};
  for (const HostShare& host : live->hosts) {
    const bool held = std::any_of(
        history.reservations.begin(), history.reservations.end(), [&](const Reservation& r) {
          return r.key == key && r.worker == host.worker && r.start <= history.committed[at];
        });
    if (!held)
      out.push_back(absl::StrCat(Where(event), ": ", host.worker, " had held nothing for it"));
  }
}

}  // namespace

Breaches CheckGangs(const History& history) {
  Breaches out;
  std::map<std::pair<std::string, std::string>, std::pair<std::string, std::size_t>> gangs;
  const auto allocated = [&](const AttemptAllocated& e, const LogEvent& event, std::size_t i) {
    int sum = 0;
    for (const HostShare& host : e.hosts) sum += host.slots;
    if (!e.hosts.empty() && (sum != e.slots || e.hosts.front().worker != e.worker)) {
      out.push_back(
          absl::StrCat(Where(event), ": its hosts have ", sum, " slots, it needs ", e.slots));
    }
    if (e.gang.empty()) return;
    const auto [it, first] = gangs.try_emplace({event.sweep, e.gang}, e.worker, i);
    if (first) return;
    if (it->second.first != e.worker)
      out.push_back(absl::StrCat(Where(event), ": gang ", e.gang, " is on ", it->second.first,
                                 " and on ", e.worker));
    if (!history.committed.empty() && history.committed[i] != history.committed[it->second.second])
      out.push_back(absl::StrCat(Where(event), ": gang ", e.gang, " was not allocated at once"));
  };
  ReadLog(
      history.log,
      [&](const LogModel& model, const LogEvent& event, std::size_t i) {
        if (const auto* e = std::get_if<AttemptAllocated>(&event.body)) allocated(*e, event, i);
        if (std::holds_alternative<AttemptPrepared>(event.body))
          CheckPrepared(history, model, event, i, out);
        const bool starts = std::holds_alternative<AttemptStarting>(event.body) ||
                            std::holds_alternative<AttemptRunning>(event.body);
        if (!starts) return;
        const TrialModel* trial = model.trial(event);
        const AttemptModel* live = trial == nullptr ? nullptr : trial->live();
        if (live != nullptr && live->hosts.size() > 1 && !live->prepared)
          out.push_back(absl::StrCat(Where(event), ": not all of its hosts had prepared"));
      },
      nullptr);
  return out;
}

Breaches CheckTerminalStates(const History& history) {
  Breaches out;
  ReadLog(
      history.log,
      [&](const LogModel& model, const LogEvent& event, std::size_t) {
        const auto sweep = model.sweeps.find(event.sweep);
        if (sweep == model.sweeps.end()) return;
        if (sweep->second.deleted) {
          out.push_back(absl::StrCat(Where(event), ": the sweep was deleted"));
          return;
        }
        const TrialModel* trial = model.trial(event);
        if (trial != nullptr && trial->ended && !MayFollowTheEnd(event.body))
          out.push_back(absl::StrCat(Where(event), ": the trial had ended"));
        if (const auto* changed = std::get_if<SweepChanged>(&event.body);
            changed != nullptr && sweep->second.ended && changed->state != SweepState::kRunning)
          out.push_back(absl::StrCat(Where(event), ": the sweep had ended"));
      },
      nullptr);
  return out;
}

Breaches CheckStreams(const History& history) {
  Breaches out;
  std::map<std::string, std::vector<const LogEvent*>> by_sweep;
  for (const LogEvent& event : history.log) by_sweep[event.sweep].push_back(&event);
  for (auto& [sweep, events] : by_sweep) {
    std::sort(events.begin(), events.end(),
              [](const LogEvent* a, const LogEvent* b) { return a->seq < b->seq; });
    for (std::size_t i = 0; i < events.size(); ++i) {
      if (events[i]->seq == static_cast<std::int64_t>(i) + 1) continue;
      out.push_back(absl::StrCat(Where(*events[i]), ": expected seq ", i + 1));
      break;
    }
  }
  for (const Watch& watch : history.watches) {
    const auto& events = by_sweep[watch.sweep];
    for (std::size_t i = 0; i < watch.seen.size(); ++i) {
      const SeenEvent& seen = watch.seen[i];
      const bool next = seen.seq == static_cast<std::int64_t>(i) + 1;
      const bool same = i < events.size() && KindOf(events[i]->body) == seen.kind &&
                        events[i]->trial == seen.trial;
      if (next && same) continue;
      out.push_back(absl::StrCat(
          "a watcher of ", watch.sweep, " saw seq ", seen.seq, " ", seen.kind,
          next ? ", the log has another there" : absl::StrCat(", the next was ", i + 1)));
      break;
    }
  }
  return out;
}

Breaches CheckSettled(const History& history) {
  Breaches out;
  if (!history.settled) return out;
  const LogModel model = ReadLog(history.log, nullptr, nullptr);
  for (const auto& [name, sweep] : model.sweeps) {
    const auto& linger = history.may_linger;
    if (sweep.ended || sweep.deleted ||
        std::find(linger.begin(), linger.end(), name) != linger.end())
      continue;
    std::string open;
    for (std::size_t i = 0; i < sweep.trials.size(); ++i) {
      if (!sweep.trials[i].ended) absl::StrAppend(&open, " ", i);
    }
    out.push_back(absl::StrCat("sweep ", name, " has not ended; open trials:", open));
  }
  return out;
}

Breaches CheckQuotas(const History& history) {
  Breaches out;
  ReadLog(history.log, nullptr, [&](const LogModel& model, const LogEvent& event, std::size_t) {
    if (!std::holds_alternative<AttemptAllocated>(event.body)) return;
    const SweepModel& sweep = model.sweeps.at(event.sweep);
    const std::int64_t live = model.Live(sweep);
    if (sweep.max_concurrent > 0 && live > sweep.max_concurrent)
      out.push_back(absl::StrCat(Where(event), ": ", live, " trials live, maxConcurrent is ",
                                 sweep.max_concurrent));
    const auto queue = model.queues.find(sweep.queue);
    if (queue == model.queues.end() || queue->second.quota <= 0) return;
    if (const std::int64_t used = model.InUse(sweep.queue); used > queue->second.quota)
      out.push_back(absl::StrCat(Where(event), ": queue ", sweep.queue, " uses ", used,
                                 " slots, its quota is ", queue->second.quota));
  });
  return out;
}

Breaches CheckAttemptLimits(const History& history) {
  Breaches out;
  ReadLog(
      history.log,
      [&](const LogModel& model, const LogEvent& event, std::size_t) {
        if (!std::holds_alternative<AttemptAllocated>(event.body)) return;
        const TrialModel* trial = model.trial(event);
        if (trial == nullptr) return;
        const SweepModel& sweep = model.sweeps.at(event.sweep);
        if (!sweep.spec.retry.empty()) return;  // its own rules
        if (trial->charged_trial >= history.trial_attempts ||
            trial->charged_worker >= history.worker_attempts)
          out.push_back(absl::StrCat(Where(event), ": it has used up its attempts"));
      },
      nullptr);
  return out;
}

Breaches CheckAll(const History& history) {
  Breaches out;
  const auto add = [&](const char* name, const Breaches& found) {
    for (const std::string& breach : found) out.push_back(absl::StrCat(name, ": ", breach));
  };
  add("I1", CheckOneLiveAttempt(history));
  add("I2", CheckSlots(history));
  add("I3", CheckClientOperations(history));
  add("I4", CheckReports(history));
  add("I5", CheckStarts(history));
  add("I6", CheckGangs(history));
  add("I7", CheckTerminalStates(history));
  add("I8", CheckStreams(history));
  add("I9", CheckSearch(history));
  add("I10", CheckSettled(history));
  add("I11", CheckQuotas(history));
  add("I12", CheckAttemptLimits(history));
  return out;
}

}  // namespace sae::server::sim
