// Random histories of trainers that save and die, a worker whose answers are lost or come twice, a
// coordinator that restarts or cannot write, and people who protect, fork and collect. No file of
// a checkpoint ever goes that the policy keeps, that is protected, or that a fork begins from; what
// was said to be secured is there; and when all is quiet, exactly what stays is on the disk.
#include <tuple>

#include "sae/base/random.h"
#include "server/testing/retention_fixture.h"

namespace sae::server::testing {
namespace {

class RetentionProperty : public RetentionTest, public ::testing::WithParamInterface<int> {
 protected:
  static constexpr int kTrials = 3;

  std::uint64_t Below(std::uint64_t n) { return random_.Below(n); }
  void Begin() {
    const config::CheckpointPolicy policies[] = {{2, 0, 0}, {1, 0, 0}, {1, 1, 0}, {2, 2, 0},
                                                 {1, 0, 2}, {1, 1, 1}, {3, 0, 1}};
    config::SweepSpec spec = Spec(policies[Below(7)], kTrials);
    spec.minimize = Below(2) == 0;
    Create(spec);
    ComeBack();
    StartAll();
  }
  bool Trains(int trial) const {
    const auto run = runs_.find(trial);
    return StateOf(trial) == TrialState::kRunning &&
           run->second.attempt == static_cast<int>(Trial(trial).attempts.size());
  }
  void ComeBack() {
    RegisterRequest request = Registration("w", kTrials + 1);
    for (const std::string& name : core_->state().sweep_order()) {
      for (const int index : core_->state().sweep(name)->live) {
        const TrialRecord& trial =
            core_->state().sweep(name)->trials[static_cast<std::size_t>(index)];
        request.attempts.push_back(
            {{name, TrialNameOf(index), trial.attempts.back().number}, true});
      }
    }
    core_->Register(request).IgnoreError();
    core_->Tick();
  }

  void Train() {
    const int trial = static_cast<int>(Below(kTrials));
    if (!Trains(trial)) return;
    std::optional<double> value;
    if (Below(4) != 0) value = static_cast<double>(Below(5));
    if (Below(10) == 0) value = std::numeric_limits<double>::quiet_NaN();
    const auto next = runs_[trial].step + 1 + static_cast<std::int64_t>(Below(3));
    if (next < 100) SaveAt(trial, next, value, Below(3) == 0);
  }
  /// Perhaps its newest checkpoint turns out to be damaged: the trainer moves it aside.
  void Die() {
    const int trial = static_cast<int>(Below(kTrials));
    if (!Trains(trial)) return;
    std::set<std::int64_t>& own = disk_of_[trial].own;
    if (own.size() > 1 && Below(2) == 0) {
      damaged_.insert({trial, *own.rbegin()});
      own.erase(std::prev(own.end()));
    }
    Kill(trial);
  }
  void Revive() {
    core_->RetryTrials("s", {}, {}).IgnoreError();
    for (int i = 0; i < 3; ++i) BeatOnly();
    StartAll();
  }

  // Delete, trial, name, attempt, only what was kept.
  using Task = std::tuple<bool, std::string, std::string, int, bool>;
  void TakeCommands() {
    for (const Command& command : core_->CommandsFor("w")) {
      const auto add = [&](const Task& task) {
        if (open_.insert(task).second) queue_.push_back(task);
      };
      if (const auto* keep = std::get_if<KeepCheckpointCommand>(&command))
        add({false, keep->trial, keep->name, keep->attempt, false});
      if (const auto* remove = std::get_if<DeleteCheckpointsCommand>(&command)) {
        for (const std::string& name : remove->names)
          add({true, remove->trial, name, remove->attempt, remove->kept_only});
      }
    }
  }
  void Work() {
    if (queue_.empty()) return;
    const Task task = queue_.front();
    queue_.pop_front();
    const auto& [remove, trial, name, attempt, kept_only] = task;
    const CheckpointStatus status = remove ? Obey({"s", trial, {name}, attempt, kept_only}, name)
                                           : Obey(KeepCheckpointCommand{"s", trial, name, attempt});
    outbox_[status.status_id] = {task, status};
  }
  void Say() {
    std::vector<CheckpointStatus> answers;
    for (const auto& [id, entry] : outbox_) {
      if (Below(3) != 0) answers.push_back(entry.second);
      if (Below(5) == 0) answers.push_back(entry.second);
    }
    const bool heard = Answer(answers).ok() && Below(3) != 0;
    for (std::size_t i = 0; heard && i < answers.size(); ++i) {
      const auto it = outbox_.find(answers[i].status_id);
      if (it == outbox_.end()) continue;
      open_.erase(it->second.first);
      outbox_.erase(it);
    }
  }
  void WorkerRestarts() {
    queue_.clear();
    outbox_.clear();
    open_.clear();
    ComeBack();
  }
  void People() {
    const int trial = static_cast<int>(Below(kTrials));
    const auto& checkpoints = Trial(trial).checkpoints;
    if (checkpoints.empty()) return;
    const std::string name = checkpoints[Below(checkpoints.size())].name;
    const std::string fork = absl::StrCat("f", forks_);
    switch (Below(6)) {
      case 0:
      case 1:
        core_->ProtectCheckpoint("s", TrialNameOf(trial), name, true, {}).IgnoreError();
        break;
      case 2:
      case 3:
        core_->ProtectCheckpoint("s", TrialNameOf(trial), name, false, {}).IgnoreError();
        break;
      case 4: {
        const std::int64_t before = Events();
        core_->CollectCheckpoints("s", true, {}).IgnoreError();
        EXPECT_EQ(Events(), before);
        if (Below(2) == 0) core_->CollectCheckpoints("s", false, {}).IgnoreError();
        break;
      }
      default:
        if (Below(2) == 0 && forks_ > 0) {
          core_->CancelSweep(absl::StrCat("f", Below(static_cast<std::uint64_t>(forks_))))
              .IgnoreError();
          break;
        }
        auto prepared = PrepareSweep(MakeSpec(fork, 1, 64), 10).value();  // fits nowhere: it waits
        prepared.event.forked_from = absl::StrCat("s/", TrialNameOf(trial), "/", name);
        prepared.event.fork_runs_id = "runs-a";
        if (core_->CreateSweep(prepared, {}, "ann").ok()) ++forks_;
    }
  }
  void Step() {
    switch (Below(16)) {
      case 0:
        return Die();
      case 1:
        return Revive();
      case 2:
        TakeCommands();
        return StartAll();
      case 3:
      case 4:
        return Work();
      case 5:
      case 6:
        return Say();
      case 7:
        return People();
      case 8:
        return Settle();
      case 9:
        if (Below(4) == 0) WorkerRestarts();
        return;
      case 10:
        if (Below(4) != 0) return;
        Restart();
        return ComeBack();
      case 11:
        if (Below(3) != 0) return;
        disk_->failures.push_back(absl::ResourceExhaustedError("injected"));
        Settle();
        return disk_->failures.clear();
      default:
        return Train();
    }
  }

  void OnStart(const std::string& trial) override {
    std::erase_if(queue_, [&](const Task& task) {
      if (!std::get<0>(task) || std::get<1>(task) != trial) return false;
      open_.erase(task);
      return true;
    });
  }
  void OnDelete(int trial, std::int64_t step, const DeleteCheckpointsCommand& command) override {
    const std::string name = absl::StrCat("step-", step);
    const ForkSources forks = ForkSourcesOf(core_->state());
    EXPECT_FALSE(forks.contains(absl::StrCat("s/", TrialNameOf(trial), "/", name))) << name;
    for (const CheckpointRecord& c : Trial(trial).checkpoints) {
      if (c.name != name || (command.kept_only && !c.secured)) continue;
      EXPECT_TRUE(c.deleting) << trial << " " << name;
      EXPECT_FALSE(c.is_protected) << trial << " " << name;
      EXPECT_FALSE(c.kept) << trial << " " << name;
    }
    const bool told = std::any_of(disk_->log.begin(), disk_->log.end(), [&](const LogEvent& event) {
      const auto* marked = std::get_if<CheckpointMarked>(&event.body);
      return marked != nullptr && event.trial == TrialNameOf(trial) && marked->name == name &&
             marked->deleting.value_or(false);
    });
    EXPECT_TRUE(told) << trial << " " << name;
    ++deletions_;
  }
  /// What stays has its files.
  void CheckFiles() {
    const bool prunes = !CoordinatorDeletes(Sweep().spec.checkpoints);
    const std::set<int> best = SweepBest(Sweep());
    for (int t = 0; t < kTrials; ++t) {
      const auto fates = FatesOf(Sweep(), Trial(t), best.contains(t), {});
      for (std::size_t i = 0; i < fates.size(); ++i) {
        const CheckpointRecord& c = Trial(t).checkpoints[i];
        const Files& files = disk_of_[t];
        const bool there = files.own.contains(c.step) || files.kept.contains(c.step);
        if (c.secured && !c.deleting) {
          ASSERT_TRUE(files.kept.contains(c.step)) << t << " " << c.name;
        }
        // A trainer that prunes may be faster than a person's wish to protect.
        const bool may_be_late = prunes && (c.is_protected || c.kept) && !c.secured;
        if (fates[i].stays && !may_be_late && !damaged_.contains({t, c.step})) {
          ASSERT_TRUE(there) << t << " " << c.name << ": " << fates[i].why;
        }
      }
    }
  }
  /// All is answered and nothing goes on.
  void CheckQuiet() {
    open_.clear();
    queue_.clear();
    outbox_.clear();
    ComeBack();
    for (int i = 0; i < 10; ++i) Revive();
    for (int t = 0; t < kTrials; ++t) {
      ASSERT_TRUE(Trains(t)) << ToString(StateOf(t)) << " " << Reason(t);
      // One more, so that no damaged one is the newest.
      if (Trains(t)) SaveAt(t, runs_[t].step + 1, 2);
      if (Trains(t)) SaveAt(t, runs_[t].step + 1, 2);
    }
    ObeyAll();
    CheckFiles();
    for (int t = 0; t < kTrials; ++t) {
      std::set<std::int64_t> on_disk = disk_of_[t].own, records;
      on_disk.insert(disk_of_[t].kept.begin(), disk_of_[t].kept.end());
      for (const CheckpointRecord& c : Trial(t).checkpoints) {
        EXPECT_FALSE(c.deleting) << t << " " << c.name;
        EXPECT_FALSE(IsToBeSecured(c)) << t << " " << c.name;
        records.insert(c.step);
      }
      for (const auto& [trial, step] : damaged_) {
        if (trial == t && !on_disk.contains(step)) records.erase(step);
      }
      EXPECT_EQ(on_disk, records) << "trial " << t;
    }
    CheckReplay();
  }

  Random random_{static_cast<std::uint64_t>(GetParam()) + 1};
  std::deque<Task> queue_;
  std::set<Task> open_;
  std::map<std::int64_t, std::pair<Task, CheckpointStatus>> outbox_;
  std::set<std::pair<int, std::int64_t>> damaged_;
  int forks_ = 0;
  int deletions_ = 0;
};

TEST_P(RetentionProperty, NothingGoesThatStays) {
  for (int history = 0; history < 6; ++history) {
    Fresh();
    queue_.clear();
    open_.clear();
    outbox_.clear();
    damaged_.clear();
    disk_of_.clear();
    runs_.clear();
    forks_ = 0;
    Begin();
    for (int step = 0; step < 400; ++step) {
      Step();
      core_->Tick();
      if (step % 3 == 0) BeatOnly();
      CheckFiles();
      if (HasFailure()) {
        ADD_FAILURE() << "history " << history << " step " << step;
        return;
      }
    }
    CheckQuiet();
    if (HasFailure()) {
      ADD_FAILURE() << "history " << history;
      return;
    }
  }
  EXPECT_GT(deletions_, 0);
}
INSTANTIATE_TEST_SUITE_P(Seeds, RetentionProperty, ::testing::Range(0, 12));

}  // namespace
}  // namespace sae::server::testing
