// Checkpoints that stay and those that go. What the policy says becomes durable first
// (CheckpointMarked), then workers are told, again and again, and what they answer becomes durable
// in turn (secured, CheckpointsDeleted). A checkpoint is told to go only once that is in the log,
// and from then on nobody can protect it or fork from it: no command is ever taken back.
#include <algorithm>
#include <iterator>
#include <limits>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/error_reason.h"
#include "server/core/checkpoint_policy.h"
#include "server/core/core.h"
#include "server/core/no_such.h"
#include "server/core/state_search.h"

namespace sae::server {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);
constexpr int kPointsBackForValue = 1024;  ///< of a trial, where an objective is looked for
constexpr std::size_t kMostEvents = 2000;  ///< of one pass
constexpr std::size_t kMostTrials = 64;    ///< about which a worker is told at once

CheckpointValue ValueOf(const config::SweepSpec& spec, const Point& point) {
  const auto value = point.values.find(spec.objective_metric);
  return {value == point.values.end() ? std::numeric_limits<double>::quiet_NaN() : value->second,
          IsFeasible(spec, point.values), point.step};
}

absl::Status BeingDeleted(const std::string& name) {
  return WithReason(
      absl::FailedPreconditionError(absl::StrCat(
          "checkpoint ", name, " is being deleted: the sweep's policy does not keep it; choose ",
          "another one (`saeloom checkpoint list`), and protect early what is to stay")),
      "CHECKPOINT_IS_BEING_DELETED");
}

const CheckpointRecord* Find(const TrialRecord& trial, const std::string& name) {
  const auto it = std::find_if(trial.checkpoints.begin(), trial.checkpoints.end(),
                               [&](const CheckpointRecord& c) { return c.name == name; });
  return it == trial.checkpoints.end() ? nullptr : &*it;
}

}  // namespace

std::optional<CheckpointValue> Core::ValueAt(const SweepRecord& sweep, const TrialRecord& trial,
                                             std::int64_t step,
                                             const std::vector<LogEvent>& before) {
  const std::string name = TrialNameOf(trial.index);
  // What an earlier checkpoint was given stands where nothing newer is found.
  std::optional<CheckpointValue> known;
  for (const CheckpointRecord& c : trial.checkpoints) {
    if (c.value && c.step <= step && !IsSuperseded(trial, c) &&
        (!known || c.value->step > known->step))
      known = c.value;
  }
  const auto look = [&](const LogEvent& event) -> std::optional<CheckpointValue> {
    const auto* point = std::get_if<Point>(&event.body);
    if (point == nullptr || point->step > step || !CarriesObjective(sweep.spec, *point) ||
        point->step > trial.EffectiveUpTo(point->attempt))
      return std::nullopt;
    return known && known->step >= point->step ? known : ValueOf(sweep.spec, *point);
  };
  for (auto event = before.rbegin(); event != before.rend(); ++event) {
    if (event->sweep != sweep.name || event->trial != name) continue;
    if (const auto found = look(*event)) return found;
  }
  std::int64_t seq = std::numeric_limits<std::int64_t>::max();
  for (int seen = 0; seen < kPointsBackForValue;) {
    const auto events = store_.ReadPointsBackward(sweep.name, name, seq, 32);
    if (!events.ok() || events->empty()) break;
    for (const LogEvent& event : *events) {
      if (const auto found = look(event)) return found;
    }
    seq = events->back().seq;
    seen += static_cast<int>(events->size());
  }
  return known;
}

void Core::AddCheckpointValues(Transaction& all) {
  const auto concerns = [&](const LogEvent& event) -> const SweepRecord* {
    if (!std::holds_alternative<CheckpointSaved>(event.body) &&
        !std::holds_alternative<Point>(event.body))
      return nullptr;
    const SweepRecord* sweep = state_.sweep(event.sweep);
    return sweep != nullptr && CoordinatorDeletes(sweep->spec.checkpoints) &&
                   sweep->trial(event.trial) != nullptr
               ? sweep
               : nullptr;
  };
  if (std::none_of(all.events.begin(), all.events.end(),
                   [&](const LogEvent& e) { return concerns(e) != nullptr; }))
    return;
  struct Saved {
    std::string name;
    std::int64_t step = 0;
    std::int64_t value_step = -1;
  };
  std::map<std::pair<std::string, std::string>, std::vector<Saved>> here;  // of this transaction
  std::vector<LogEvent> out;
  out.reserve(all.events.size() + 4);
  for (LogEvent& event : all.events) {
    const SweepRecord* sweep = concerns(event);
    out.push_back(std::move(event));
    if (sweep == nullptr) continue;
    const auto* at = std::get_if<Point>(&out.back().body);
    if (at != nullptr && !CarriesObjective(sweep->spec, *at)) continue;
    const LogEvent last = out.back();  // what follows is put behind it
    const TrialRecord& trial = *sweep->trial(last.trial);
    std::vector<Saved>& saves = here[{last.sweep, last.trial}];
    const auto mark = [&](const std::string& name, const CheckpointValue& value) {
      CheckpointMarked body;
      body.name = name;
      body.value = value;
      out.push_back({last.sweep, 0, last.time, last.trial, std::move(body)});
    };
    if (const auto* saved = std::get_if<CheckpointSaved>(&last.body)) {
      Saved one{saved->name, saved->step, -1};
      if (const auto value = ValueAt(*sweep, trial, saved->step, out)) {
        one.value_step = value->step;
        mark(one.name, *value);
      }
      saves.push_back(std::move(one));
      continue;
    }
    const auto& point = std::get<Point>(last.body);
    if (point.step > trial.EffectiveUpTo(point.attempt)) continue;
    // An evaluation may come after the checkpoint of its step.
    for (Saved& saved : saves) {
      if (saved.step < point.step || saved.value_step >= point.step) continue;
      saved.value_step = point.step;
      mark(saved.name, ValueOf(sweep->spec, point));
    }
    for (const CheckpointRecord& c : trial.checkpoints) {
      const bool again = std::any_of(saves.begin(), saves.end(),
                                     [&](const Saved& saved) { return saved.name == c.name; });
      if (again || c.step < point.step || (c.value && c.value->step >= point.step)) continue;
      mark(c.name, ValueOf(sweep->spec, point));
    }
  }
  all.events = std::move(out);
}

void Core::RunRetention() {
  const absl::Duration now = clock_.SinceBoot();
  if (retention_.changed().empty() || now < next_retention_) return;
  next_retention_ = now + kLookEvery;
  auto changed = retention_.TakeChanged();
  const ForkSources forks = ForkSourcesOf(state_);
  Transaction transaction;
  for (auto& [name, trials] : changed) {
    const SweepRecord* sweep = state_.sweep(name);
    if (sweep == nullptr) continue;
    if (transaction.events.size() >= kMostEvents) {
      for (const int trial : trials) retention_.SetChanged(name, trial);
      continue;
    }
    const std::set<int> best = retention_.SweepBest(*sweep);
    // Another trial may have taken the place of one that was among the best of the sweep.
    std::set<int>& before = retention_.judged_best(name);
    std::set_symmetric_difference(best.begin(), best.end(), before.begin(), before.end(),
                                  std::inserter(trials, trials.end()));
    before = best;
    for (const int index : trials) {
      const TrialRecord& trial = sweep->trials[static_cast<std::size_t>(index)];
      MarkFates(transaction, *sweep, trial, best.contains(index), forks);
    }
  }
  if (transaction.empty() || Commit(std::move(transaction)).ok()) return;
  for (const auto& [name, trials] : changed) {
    for (const int trial : trials) retention_.SetChanged(name, trial);
  }
}

void Core::MarkFates(Transaction& transaction, const SweepRecord& sweep, const TrialRecord& trial,
                     bool sweep_best, const ForkSources& forks) {
  if (trial.checkpoints.empty()) return;
  const std::vector<CheckpointFate> fates = FatesOf(sweep, trial, sweep_best, forks);
  for (std::size_t i = 0; i < fates.size(); ++i) {
    const CheckpointRecord& c = trial.checkpoints[i];
    if (c.deleting) continue;
    CheckpointMarked mark;
    mark.name = c.name;
    // One that a worker may be linking now is wanted until it says so: its record stays with it.
    if (c.kept && !fates[i].best && (c.secured || !fates[i].stays)) mark.kept = false;
    if (!c.kept && fates[i].best) mark.kept = true;
    if (!fates[i].stays) mark.deleting = true;
    if (mark.kept || mark.deleting)
      Add(transaction, sweep.name, TrialNameOf(trial.index), std::move(mark));
  }
}

std::string Core::HolderOf(const TrialRecord& trial, const CheckpointRecord& checkpoint) const {
  const std::string runs_id = RunsIdOf(trial, checkpoint);
  const auto has = [&](const std::string& id) {
    const auto it = workers_.find(id);
    return it != workers_.end() && it->second.ready && it->second.runs_id == runs_id;
  };
  // The one that writes there sees it soonest.
  if (const AttemptRecord* live = trial.live_attempt(); live != nullptr && has(live->worker))
    return live->worker;
  if (const AttemptRecord* own = trial.attempt(checkpoint.attempt);
      own != nullptr && has(own->worker))
    return own->worker;
  for (const auto& [id, worker] : workers_) {
    if (has(id)) return id;
  }
  return "";
}

void Core::RetentionCommands(const std::string& worker, std::vector<Command>& commands) const {
  const auto entry = workers_.find(worker);
  if (entry == workers_.end() || !entry->second.ready) return;
  std::size_t trials = 0;
  for (const auto& [name, index] : retention_.In(entry->second.runs_id)) {
    const SweepRecord& sweep = *state_.sweep(name);
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
    const std::string trial_name = TrialNameOf(index);
    // By attempt, and whether it was superseded. None while an attempt begins, which may find that
    // it has to go on from an earlier one.
    std::map<std::pair<int, bool>, std::vector<std::string>> deleting;
    const AttemptRecord* live = trial.live_attempt();
    const bool begins = live != nullptr && !live->from_step;
    bool any = false;
    for (const CheckpointRecord& c : trial.checkpoints) {
      if ((!c.deleting && !IsToBeSecured(c)) || HolderOf(trial, c) != worker) continue;
      any = true;
      if (c.deleting) {
        if (!begins) deleting[{c.attempt, IsSuperseded(trial, c)}].push_back(c.name);
      } else {
        commands.emplace_back(KeepCheckpointCommand{name, trial_name, c.name, c.attempt});
      }
    }
    for (auto& [of, names] : deleting) {
      commands.emplace_back(
          DeleteCheckpointsCommand{name, trial_name, std::move(names), of.first, of.second});
    }
    trials += any ? 1 : 0;
    if (trials >= kMostTrials) return;
  }
}

void Core::TellHolders(const TrialRecord& trial) const {
  std::set<std::string> holders;
  for (const CheckpointRecord& c : trial.checkpoints) {
    if (c.deleting || IsToBeSecured(c)) holders.insert(HolderOf(trial, c));
  }
  holders.erase("");
  for (const std::string& holder : holders) {
    for (CoreObserver* o : observers_) o->OnCommands(holder);
  }
}

absl::Status Core::ApplyCheckpointStatuses(WorkerEntry& worker,
                                           const std::vector<CheckpointStatus>& statuses) {
  using Kind = CheckpointStatus::State;
  Transaction transaction;
  for (const CheckpointStatus& status : statuses) {
    const SweepRecord* sweep = state_.sweep(status.sweep);
    const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(status.trial);
    const CheckpointRecord* c = trial == nullptr ? nullptr : Find(*trial, status.name);
    if (c == nullptr || c->attempt != status.attempt || RunsIdOf(*trial, *c) != worker.runs_id)
      continue;  // answered before
    const std::string key = absl::StrCat(status.sweep, "/", status.trial, "/", status.name);
    retention_notes_.erase(key);
    if (status.state == Kind::kKept && IsToBeSecured(*c)) {
      CheckpointMarked mark;
      mark.name = c->name;
      mark.secured = true;
      Add(transaction, status.sweep, status.trial, std::move(mark));
    } else if (status.state == Kind::kDeleted && c->deleting) {
      Add(transaction, status.sweep, status.trial, CheckpointsDeleted{{c->name}, status.bytes, ""});
    } else if (status.state == Kind::kMissing && IsToBeSecured(*c)) {
      // Of the newest the trainer's word counts: a file system may show them late.
      const bool newest = IsAmongNewest(sweep->spec.checkpoints, *trial, *c);
      if (newest) {
        retention_notes_[key] = "its worker does not find it whole";
      } else {
        Add(transaction, status.sweep, status.trial,
            CheckpointsDeleted{{c->name}, 0, "it was gone before it could be kept"});
      }
    } else if (status.state == Kind::kFailed) {
      retention_notes_[key] = status.reason;
      if (status.status_id <= worker.checkpoint_failures_told) continue;  // it said so before
      worker.checkpoint_failures_told = status.status_id;
      for (CoreObserver* o : observers_) o->OnCheckpointFailed(c->deleting ? "delete" : "keep");
    }
  }
  return Commit(std::move(transaction));
}

std::string Core::OpenWorkOf(const SweepRecord& sweep, const TrialRecord& trial,
                             const CheckpointRecord& c) const {
  if (!c.deleting && !IsToBeSecured(c)) return "";
  const std::string holder = HolderOf(trial, c);
  const AttemptRecord* attempt = trial.attempt(c.attempt);
  if (holder.empty()) {
    return absl::StrCat("waits for a worker that shares runs folder ",
                        attempt == nullptr ? "?" : attempt->runs_directory);
  }
  const auto note =
      retention_notes_.find(absl::StrCat(sweep.name, "/", TrialNameOf(trial.index), "/", c.name));
  return absl::StrCat("worker ", holder, " is to ", c.deleting ? "delete it" : "link it below kept",
                      note == retention_notes_.end() ? "" : ": " + note->second);
}

std::vector<JudgedCheckpoint> Core::JudgeCheckpoints(const SweepRecord& sweep,
                                                     const TrialRecord* only) const {
  const ForkSources forks = ForkSourcesOf(state_);
  const std::set<int> best = retention_.SweepBest(sweep);
  std::vector<JudgedCheckpoint> out;
  for (const TrialRecord& trial : sweep.trials) {
    if (only != nullptr && &trial != only) continue;
    if (trial.checkpoints.empty()) continue;
    const auto fates = FatesOf(sweep, trial, best.contains(trial.index), forks);
    for (std::size_t i = 0; i < fates.size(); ++i) {
      const std::string work = OpenWorkOf(sweep, trial, trial.checkpoints[i]);
      out.push_back({trial.index, trial.checkpoints[i], fates[i].stays,
                     work.empty() ? fates[i].why : absl::StrCat(fates[i].why, "; ", work)});
    }
  }
  return out;
}

absl::Status Core::ProtectCheckpoint(const std::string& name, const std::string& trial_name,
                                     const std::string& checkpoint, bool protect,
                                     const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "ProtectCheckpoint", name));
  if (answer) return absl::OkStatus();
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  const TrialRecord* trial = sweep->trial(trial_name);
  if (trial == nullptr)
    return absl::NotFoundError(
        absl::StrCat("no trial \"", trial_name, "\" in sweep \"", name, "\""));
  const CheckpointRecord* c = Find(*trial, checkpoint);
  if (c == nullptr) {
    std::vector<std::string> names;
    for (const CheckpointRecord& other : trial->checkpoints) names.push_back(other.name);
    return absl::NotFoundError(absl::StrCat(
        "no checkpoint \"", checkpoint, "\" of trial ", trial_name, " of sweep \"", name, "\"; it ",
        names.empty() ? "has none" : "has " + absl::StrJoin(names, ", ")));
  }
  if (protect && c->deleting)
    return BeingDeleted(absl::StrCat(name, "/", trial_name, "/", checkpoint));
  Transaction transaction;
  Remember(request, "ProtectCheckpoint", name, "", transaction);
  if (c->is_protected != protect) {
    CheckpointMarked mark;
    mark.name = checkpoint;
    mark.is_protected = protect;
    if (!protect) {
      // In the same transaction: between the two its record could go and leave its files.
      TrialRecord after = *trial;
      const auto at = static_cast<std::size_t>(c - trial->checkpoints.data());
      after.checkpoints[at].is_protected = false;
      const bool best = retention_.SweepBest(*sweep).contains(trial->index);
      const bool stays = FatesOf(*sweep, after, best, ForkSourcesOf(state_))[at].stays;
      if (!c->deleting && !stays) mark.deleting = true;
      if (mark.deleting && c->kept) mark.kept = false;
      if (!c->deleting && stays && !c->secured) mark.kept = true;  // as in MarkFates
    }
    Add(transaction, name, trial_name, std::move(mark));
  }
  return Commit(std::move(transaction));
}

absl::StatusOr<std::vector<JudgedCheckpoint>> Core::CollectCheckpoints(const std::string& name,
                                                                       bool dry_run,
                                                                       const RequestKey& request) {
  const SweepRecord* sweep = state_.sweep(name);
  if (sweep == nullptr) return NoSweep(name);
  std::optional<std::string> answer;
  if (!dry_run) {
    SAE_ASSIGN_OR_RETURN(answer, FirstAnswer(request, "CollectCheckpoints", name));
  }
  if (answer) {
    std::vector<JudgedCheckpoint> out = JudgeCheckpoints(*sweep, nullptr);
    std::set<std::string> told = absl::StrSplit(*answer, ',', absl::SkipEmpty());
    // Those that went since; and what came up since is another call's.
    std::erase_if(out, [&](const JudgedCheckpoint& c) {
      const std::string key = absl::StrCat(TrialNameOf(c.trial), "/", c.record.name);
      return told.erase(key) == 0 && !c.stays;
    });
    for (const std::string& gone : told) {
      const std::vector<std::string> parts = absl::StrSplit(gone, '/');
      JudgedCheckpoint c;
      c.trial = TrialIndexOf(parts[0]);
      c.record.name = parts.size() == 2 ? parts[1] : "";
      c.why = "deleted";
      out.push_back(std::move(c));
    }
    return out;
  }
  std::vector<JudgedCheckpoint> judged = JudgeCheckpoints(*sweep, nullptr);
  if (dry_run) return judged;
  Transaction transaction;
  const ForkSources forks = ForkSourcesOf(state_);
  const std::set<int> best = retention_.SweepBest(*sweep);
  for (const TrialRecord& trial : sweep->trials)
    MarkFates(transaction, *sweep, trial, best.contains(trial.index), forks);
  std::vector<std::string> names;
  for (const JudgedCheckpoint& c : judged) {
    if (!c.stays) names.push_back(absl::StrCat(TrialNameOf(c.trial), "/", c.record.name));
  }
  Remember(request, "CollectCheckpoints", name, absl::StrJoin(names, ","), transaction);
  SAE_RETURN_IF_ERROR(Commit(std::move(transaction)));
  return JudgeCheckpoints(*sweep, nullptr);
}

absl::Status Core::CheckForkSource(const std::string& source) const {
  const std::vector<std::string> names = absl::StrSplit(source, '/');
  const SweepRecord* sweep = names.size() == 3 ? state_.sweep(names[0]) : nullptr;
  const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(names[1]);
  const CheckpointRecord* c = trial == nullptr ? nullptr : Find(*trial, names[2]);
  return c != nullptr && c->deleting ? BeingDeleted(source) : absl::OkStatus();
}

}  // namespace sae::server
