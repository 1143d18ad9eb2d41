#pragma once
// A core, and a worker "w" that trains trials of the sweep "s" on a model of its disk: which
// checkpoints each trial has in its two folders. The worker obeys Keep and Delete as the real one
// does. Not thread-safe.

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"

#include "server/core/checkpoint_policy.h"
#include "server/testing/lifecycle_fixture.h"

namespace sae::server::testing {

class RetentionTest : public LifecycleTest {
 protected:
  using Names = std::vector<std::string>;
  struct Files {
    std::set<std::int64_t> own, kept;  ///< steps of whole ones
  };
  struct Run {
    int attempt = 0;
    std::int64_t step = 0, seq = 0;
    int keep = 2;
  };

  static config::SweepSpec Spec(config::CheckpointPolicy policy, int trials = 1) {
    config::SweepSpec spec = MakeSpec("s", trials);
    spec.checkpoints = policy;
    return spec;
  }
  static std::int64_t StepOf(const std::string& name) {
    std::int64_t step = 0;
    EXPECT_TRUE(absl::SimpleAtoi(name.substr(5), &step)) << name;
    return step;
  }

  /// Starts what the coordinator says, each from its newest checkpoint.
  void StartAll() {
    for (const Command& command : core_->CommandsFor("w")) {
      const auto* start = std::get_if<StartCommand>(&command);
      if (start == nullptr) continue;
      const int trial = TrialIndexOf(start->key.trial);
      Run& run = runs_[trial];
      if (run.attempt == start->key.attempt) continue;
      OnStart(start->key.trial);
      Files& files = disk_of_[trial];
      if (files.own.empty() && !files.kept.empty()) files.own.insert(*files.kept.rbegin());
      const std::int64_t from = files.own.empty() ? 0 : *files.own.rbegin();
      run = {start->key.attempt, from, 0, start->keep_checkpoints};
      Tell(trial, config::EventKind::kStarted, 0, from);
    }
  }
  void Tell(int trial, config::EventKind kind, double value = 0, std::int64_t from = 0) {
    Run& run = runs_[trial];
    config::Event event;
    event.seq = ++run.seq;
    event.kind = kind;
    event.step = run.step;
    event.tokens = run.step * 1000;
    event.from_step = from;
    if (kind == config::EventKind::kEvaluation) event.values["heldout.fvu"] = value;
    if (kind == config::EventKind::kCheckpoint) event.checkpoint = absl::StrCat("step-", run.step);
    const AttemptKey key{"s", TrialNameOf(trial), run.attempt};
    auto told = Report("w", key, event.seq, {config::ToJsonLine(event)});
    for (int i = 0; i < 10 && !told.ok(); ++i) {  // as the reporter does, while a disk is full
      clock_.Advance(absl::Milliseconds(600));
      core_->Tick();
      told = Report("w", key, event.seq, {config::ToJsonLine(event)});
    }
    ASSERT_TRUE(told.ok()) << told.status();
  }
  /// The trainer saves at a step; what it prunes is gone at once, as on a real disk. An evaluation
  /// comes before, as at any step, or after it, as at the last.
  void SaveAt(int trial, std::int64_t step, std::optional<double> value = {}, bool after = false) {
    Run& run = runs_[trial];
    run.step = step;
    if (value && !after) Tell(trial, config::EventKind::kEvaluation, *value);
    std::set<std::int64_t>& own = disk_of_[trial].own;
    own.insert(step);
    for (int n = 0; run.keep > 0 && static_cast<int>(own.size()) > run.keep; ++n)
      own.erase(own.begin());
    Tell(trial, config::EventKind::kCheckpoint);
    if (value && after) Tell(trial, config::EventKind::kEvaluation, *value);
  }
  /// It dies; its next attempt is placed.
  void Kill(int trial) {
    const Run& run = runs_[trial];
    Beat("w", {Ended(TrialNameOf(trial), run.attempt, 137, "")}).IgnoreError();
    for (int i = 0; i < 40 && StateOf(trial) == TrialState::kPending; ++i) {
      clock_.Advance(absl::Seconds(5));
      BeatOnly();
    }
  }
  void Finish(int trial) {
    Tell(trial, config::EventKind::kFinished);
    Beat("w", {Ended(TrialNameOf(trial), runs_[trial].attempt, 0, "finished")}).IgnoreError();
  }
  void BeatOnly() {
    HeartbeatRequest request;
    request.sender = SenderOf("w");
    request.heartbeat = ++heartbeats_;
    core_->Heartbeat(request).IgnoreError();
    core_->Tick();
  }
  /// The policies are looked at now and then.
  void Settle() {
    clock_.Advance(absl::Seconds(2));
    core_->Tick();
  }

  /// As the real one carries them out.
  CheckpointStatus Obey(const KeepCheckpointCommand& keep) {
    using Kind = CheckpointStatus::State;
    Files& files = disk_of_[TrialIndexOf(keep.trial)];
    const std::int64_t step = StepOf(keep.name);
    const bool there = files.own.contains(step) || files.kept.contains(step);
    if (there) files.kept.insert(step);
    return {keep.sweep, keep.trial, keep.name,  keep.attempt, there ? Kind::kKept : Kind::kMissing,
            "",         10,         ++statuses_};
  }
  CheckpointStatus Obey(const DeleteCheckpointsCommand& remove, const std::string& name) {
    using Kind = CheckpointStatus::State;
    const int trial = TrialIndexOf(remove.trial);
    Files& files = disk_of_[trial];
    const std::int64_t step = StepOf(name);
    const std::set<std::int64_t>& from = files.own.empty() ? files.kept : files.own;
    const bool refuse =
        !from.empty() && *from.rbegin() == step && !(remove.kept_only && !files.own.empty());
    if (!refuse) {
      OnDelete(trial, step, remove);
      if (!remove.kept_only) files.own.erase(step);
      files.kept.erase(step);
    }
    return {remove.sweep,
            remove.trial,
            name,
            remove.attempt,
            refuse ? Kind::kFailed : Kind::kDeleted,
            refuse ? "it is the newest" : "",
            10,
            ++statuses_};
  }
  virtual void OnDelete(int /*trial*/, std::int64_t /*step*/,
                        const DeleteCheckpointsCommand& /*command*/) {}
  virtual void OnStart(const std::string& /*trial*/) {}
  /// Carries out all that is commanded and says so, until nothing is commanded.
  void ObeyAll() {
    for (int round = 0; round < 10; ++round) {
      Settle();
      std::vector<CheckpointStatus> answers;
      for (const Command& command : core_->CommandsFor("w")) {
        if (const auto* keep = std::get_if<KeepCheckpointCommand>(&command))
          answers.push_back(Obey(*keep));
        if (const auto* remove = std::get_if<DeleteCheckpointsCommand>(&command)) {
          for (const std::string& name : remove->names) answers.push_back(Obey(*remove, name));
        }
      }
      if (answers.empty()) return;
      Answer(std::move(answers)).IgnoreError();
    }
    ADD_FAILURE() << "commands without end";
  }
  absl::Status Answer(std::vector<CheckpointStatus> answers) {
    HeartbeatRequest request;
    request.sender = SenderOf("w");
    request.heartbeat = ++heartbeats_;
    const std::size_t n = answers.size();
    request.checkpoints = std::move(answers);
    const auto reply = core_->Heartbeat(request);
    core_->Tick();
    if (reply.ok()) {
      EXPECT_LE(reply->status_acks.size(), n);
    }
    return reply.status();
  }
  Names Keeps() {
    Names out;
    for (const Command& command : core_->CommandsFor("w")) {
      if (const auto* keep = std::get_if<KeepCheckpointCommand>(&command))
        out.push_back(absl::StrCat(keep->trial, "/", keep->name, "@", keep->attempt));
    }
    return out;
  }
  Names Deletes() {
    Names out;
    for (const Command& command : core_->CommandsFor("w")) {
      const auto* remove = std::get_if<DeleteCheckpointsCommand>(&command);
      for (std::size_t i = 0; remove != nullptr && i < remove->names.size(); ++i)
        out.push_back(absl::StrCat(remove->trial, "/", remove->names[i], "@", remove->attempt));
    }
    return out;
  }
  /// "step-5 protected kept secured deleting".
  Names Records(int trial = 0) const {
    Names out;
    for (const CheckpointRecord& c : Trial(trial).checkpoints)
      out.push_back(absl::StrCat(c.name, c.is_protected ? " protected" : "", c.kept ? " kept" : "",
                                 c.secured ? " secured" : "", c.deleting ? " deleting" : ""));
    return out;
  }

  std::map<int, Files> disk_of_;
  std::map<int, Run> runs_;
};

}  // namespace sae::server::testing
