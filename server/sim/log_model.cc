#include "server/sim/log_model.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace sae::server::sim {
namespace {

template <class T>
bool Is(const Body& body) {
  return std::holds_alternative<T>(body);
}

bool Final(TrialState s) {
  return s == TrialState::kSucceeded || s == TrialState::kStoppedEarly ||
         s == TrialState::kFailed || s == TrialState::kCancelled;
}

void Allocate(TrialModel& trial, const AttemptAllocated& e, const LogEvent& event,
              std::size_t index) {
  AttemptModel attempt;
  attempt.number = e.attempt;
  attempt.worker = e.worker;
  attempt.hosts = e.hosts;
  if (e.hosts.empty()) attempt.hosts.push_back({e.worker, e.slots});
  attempt.slots = e.slots;
  attempt.gang = e.gang.empty() ? absl::StrCat(event.trial, "/", e.attempt) : e.gang;
  attempt.allocated_at = index;
  trial.attempts.push_back(std::move(attempt));
  trial.paused = false;
}

void End(TrialModel& trial, const AttemptEnded& e, std::size_t index) {
  if (trial.attempts.empty()) return;
  trial.attempts.back().ended = true;
  trial.attempts.back().ended_at = index;
  if (e.charge == Charge::kTrial) ++trial.charged_trial;
  if (e.charge == Charge::kWorker) ++trial.charged_worker;
  trial.ended = Final(e.next);
  trial.paused = e.next == TrialState::kPaused;
}

void ApplyToTrial(TrialModel& trial, const LogEvent& event, std::size_t index) {
  AttemptModel* last = trial.attempts.empty() ? nullptr : &trial.attempts.back();
  const Body& body = event.body;
  if (const auto* allocated = std::get_if<AttemptAllocated>(&body)) {
    Allocate(trial, *allocated, event, index);
  } else if (const auto* ended = std::get_if<AttemptEnded>(&body)) {
    End(trial, *ended, index);
  } else if (Is<AttemptStarting>(body) && last != nullptr) {
    last->started = true;
  } else if (const auto* running = std::get_if<AttemptRunning>(&body); running && last != nullptr) {
    last->started = true;
    last->from_step = running->from_step;
  } else if (Is<AttemptPrepared>(body) && last != nullptr) {
    last->prepared = true;
  } else if (Is<TrialRetried>(body)) {
    trial.ended = false;
    trial.charged_trial = trial.charged_worker = 0;
  } else if (Is<TrialCancelled>(body)) {
    trial.ended = true;
  } else if (Is<TrialPaused>(body)) {
    trial.paused = true;
  } else if (Is<TrialResumed>(body)) {
    trial.paused = false;
  }
}

}  // namespace

int IndexOfTrial(const std::string& name) {
  int index = -1;
  return absl::SimpleAtoi(name, &index) ? index : -1;
}

bool MayFollowTheEnd(const Body& body) {
  return Is<Point>(body) || Is<Notice>(body) || Is<CheckpointSaved>(body) ||
         Is<CheckpointMarked>(body) || Is<CheckpointsDeleted>(body) || Is<TrialRetried>(body) ||
         Is<SearchReport>(body) || Is<SearchDecided>(body);
}

const TrialModel* LogModel::trial(const std::string& sweep, const std::string& name) const {
  const auto it = sweeps.find(sweep);
  const int index = IndexOfTrial(name);
  if (it == sweeps.end() || index < 0) return nullptr;
  const auto& trials = it->second.trials;
  return index < static_cast<int>(trials.size()) ? &trials[static_cast<std::size_t>(index)]
                                                 : nullptr;
}

std::int64_t LogModel::InUse(const std::string& queue) const {
  std::int64_t slots = 0;
  for (const auto& [name, sweep] : sweeps) {
    if (sweep.queue != queue) continue;
    std::set<std::string> gangs;
    for (const TrialModel& trial : sweep.trials) {
      const AttemptModel* live = trial.live();
      if (live != nullptr && gangs.insert(live->gang).second) slots += live->slots;
    }
  }
  return slots;
}

int LogModel::OnWorker(const std::string& worker) const {
  int slots = 0;
  for (const auto& [name, sweep] : sweeps) {
    std::set<std::string> gangs;
    for (const TrialModel& trial : sweep.trials) {
      const AttemptModel* live = trial.live();
      if (live == nullptr || !gangs.insert(live->gang).second) continue;
      for (const HostShare& host : live->hosts) slots += host.worker == worker ? host.slots : 0;
    }
  }
  return slots;
}

std::int64_t LogModel::Live(const SweepModel& sweep) const {
  return std::count_if(sweep.trials.begin(), sweep.trials.end(),
                       [](const TrialModel& t) { return t.live() != nullptr; });
}

void LogModel::Apply(const LogEvent& event, std::size_t index) {
  const Body& body = event.body;
  if (const auto* queue = std::get_if<QueueUpdated>(&body)) {
    queues[queue->name].quota = queue->quota_slots;
    return;
  }
  if (event.sweep.empty()) return;
  SweepModel& sweep = sweeps[event.sweep];
  if (const auto* created = std::get_if<SweepCreated>(&body)) {
    if (auto spec = config::ParseSweepSpec(created->spec); spec.ok()) sweep.spec = *std::move(spec);
    sweep.queue = sweep.spec.queue.empty() ? "default" : sweep.spec.queue;
    sweep.max_concurrent = sweep.spec.max_concurrent;
    sweep.trials.resize(created->points.size());
  } else if (const auto* changed = std::get_if<SweepChanged>(&body)) {
    sweep.ended = changed->state == SweepState::kSucceeded ||
                  changed->state == SweepState::kFailed || changed->state == SweepState::kCancelled;
    sweep.paused = changed->state == SweepState::kPaused;
  } else if (const auto* updated = std::get_if<SweepUpdated>(&body)) {
    if (updated->queue) sweep.queue = updated->queue->empty() ? "default" : *updated->queue;
    if (updated->max_concurrent) sweep.max_concurrent = *updated->max_concurrent;
  } else if (const auto* added = std::get_if<PointsAdded>(&body)) {
    sweep.trials.resize(sweep.trials.size() + added->points.size());
  } else if (Is<SweepDeleted>(body)) {
    sweep.deleted = true;
  } else if (trial(event) != nullptr) {
    ApplyToTrial(sweep.trials[static_cast<std::size_t>(IndexOfTrial(event.trial))], event, index);
  }
}

LogModel ReadLog(const std::vector<LogEvent>& log,
                 const std::function<void(const LogModel&, const LogEvent&, std::size_t)>& before,
                 const std::function<void(const LogModel&, const LogEvent&, std::size_t)>& after) {
  LogModel model;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (log[i].telemetry()) continue;
    if (before) before(model, log[i], i);
    model.Apply(log[i], i);
    if (after) after(model, log[i], i);
  }
  return model;
}

}  // namespace sae::server::sim
