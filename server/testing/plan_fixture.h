#pragma once
// Scheduling cycles from plain lists: for tests of the scheduler.

#include <map>
#include <string>
#include <vector>

#include "server/core/scheduler.h"

namespace sae::server::testing {

inline SweepTerms MakeTerms(const std::string& name, std::int64_t priority = 0,
                            const std::string& queue = "", const std::string& owner = "") {
  SweepTerms terms;
  terms.name = name;
  terms.priority = priority;
  terms.queue = queue;
  terms.owner = owner;
  return terms;
}

/// What a test knows of a cycle's input; the queue and the sweeps are made from it.
struct World {
  std::vector<SchedulableTrial> trials = {};
  std::vector<SchedulableWorker> workers = {};
  /// Of sweeps that are not named here: the default terms. In order of submission.
  std::vector<SweepTerms> sweeps = {};
  std::map<std::string, QueueTerms> queues = {};
  std::vector<RunningGang> running = {};

  std::vector<SweepTerms> Terms() const {
    std::vector<SweepTerms> terms = sweeps;
    for (const SchedulableTrial& trial : trials) {
      bool known = false;
      for (const SweepTerms& t : terms) known = known || t.name == trial.sweep;
      if (!known) {
        terms.emplace_back();
        terms.back().name = trial.sweep;
      }
    }
    return terms;
  }
};

inline Schedule PlanOf(const World& world) {
  PendingQueue pending;
  for (const SchedulableTrial& trial : world.trials) pending.Add(trial);
  return Plan({pending, world.Terms(), world.queues, world.workers, world.running});
}

/// "sweep/index" -> "worker", "worker:2 other:2" of a gang over several.
inline std::map<std::string, std::string> PlacedOf(const World& world, const Schedule& schedule) {
  const std::vector<SweepTerms> terms = world.Terms();
  std::map<std::string, std::string> out;
  for (const Placement& p : schedule.placements) {
    std::string& text = out[terms[p.sweep].name + "/" + std::to_string(p.trial)];
    for (const Places::Take& take : p.takes) {
      if (!text.empty()) text += " ";
      text += world.workers[take.worker].id;
      if (p.takes.size() > 1) text += ":" + std::to_string(take.slots);
    }
  }
  return out;
}
inline std::map<std::string, std::string> PlacedIn(const World& world) {
  return PlacedOf(world, PlanOf(world));
}

inline SchedulableTrial MakeTrial(int index, int slots, const std::string& runs_id = "") {
  SchedulableTrial trial;
  trial.sweep = "s";
  trial.index = index;
  trial.slots = slots;
  trial.runs_id = runs_id;
  trial.runs_directory = runs_id.empty() ? "" : "/" + runs_id;
  return trial;
}
inline std::vector<SchedulableTrial> MakeTrials(const std::string& sweep, int n, int slots) {
  std::vector<SchedulableTrial> out;
  for (int i = 0; i < n; ++i) {
    out.push_back(MakeTrial(i, slots));
    out.back().sweep = sweep;
  }
  return out;
}
inline SchedulableWorker MakeWorker(const std::string& id, int slots, int free,
                                    const std::string& runs_id = "r") {
  SchedulableWorker worker;
  worker.id = id;
  worker.runs_id = runs_id;
  worker.slots = slots;
  worker.free = free;
  return worker;
}
/// One that may be in a gang over several.
inline SchedulableWorker MakePeer(const std::string& id, int slots, int free,
                                  const std::string& rack = "", const std::string& runs_id = "r") {
  SchedulableWorker worker = MakeWorker(id, slots, free, runs_id);
  worker.rack = rack;
  worker.peers = true;
  return worker;
}

}  // namespace sae::server::testing
