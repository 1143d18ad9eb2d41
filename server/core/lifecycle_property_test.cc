// Random sequences of verbs and workers' messages: no event is ever refused, counts and sets agree
// with the trials, a replay gives the same state at every look, and when all is resumed and workers
// are well, every sweep ends.
#include <set>

#include "sae/base/random.h"
#include "server/testing/lifecycle_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;

class LifecyclePropertyTest : public LifecycleTest, public ::testing::WithParamInterface<int> {
 protected:
  using St = AttemptStatus::State;

  std::uint64_t Below(std::uint64_t n) { return random_.Below(n); }
  std::string AnySweep() { return "s" + std::to_string(Below(3)); }
  std::string AnyTrial() { return TrialNameOf(static_cast<int>(Below(4))); }
  std::string AnyRequest() { return Below(3) == 0 ? "id" + std::to_string(Below(40)) : ""; }

  void Verb() {
    const std::string sweep = AnySweep();
    const RequestKey request(AnyRequest());
    switch (Below(12)) {
      case 0:
        if (Below(3) == 0) core_->CancelSweep(sweep, Below(2) == 0, request).IgnoreError();
        break;
      case 1:
        core_->PauseSweep(sweep, request).IgnoreError();
        break;
      case 2:
      case 3:
        core_->ResumeSweep(sweep, request).IgnoreError();
        break;
      case 4:
        core_->RetryTrials(sweep, {}, request).IgnoreError();
        break;
      case 5:
        if (Below(8) == 0) core_->DeleteSweep(sweep, request).IgnoreError();
        break;
      case 6:
        core_->AddPoints(sweep, {{{"sae.k", std::to_string(4 + Below(9))}}}, 2, request)
            .IgnoreError();
        break;
      case 7:
        core_
            ->UpdateSweep(sweep, {.max_concurrent = static_cast<std::int64_t>(Below(3))}, "",
                          request)
            .IgnoreError();
        break;
      default:
        core_->ChangeTrial(static_cast<TrialVerb>(Below(4)), sweep, AnyTrial(), request)
            .IgnoreError();
    }
  }
  struct Live {
    AttemptKey key;
    std::string worker;
    bool told = false;
  };
  std::vector<Live> LiveAttempts() const {
    std::vector<Live> out;
    for (const std::string& name : core_->state().sweep_order()) {
      const SweepRecord& sweep = *core_->state().sweep(name);
      for (const int index : sweep.live) {
        const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
        const AttemptRecord& attempt = trial.attempts.back();
        const bool told = sweep.cancel_requested || attempt.stop_wanted != StopWanted::kNone;
        out.push_back({{name, TrialNameOf(index), attempt.number}, attempt.worker, told});
      }
    }
    return out;
  }
  void Say(const Live& live, St state, int exit_code = 0, const std::string& verdict = "") {
    AttemptStatus status;
    status.key = live.key;
    status.state = state;
    status.exit_code = exit_code;
    status.verdict = verdict;
    status.status_id = ++statuses_;
    core_->Heartbeat({SenderOf(live.worker), ++heartbeats_, 0, {status}}).IgnoreError();
  }
  void Lines(const Live& live) {
    const std::int64_t first = core_->acknowledged(live.key) + 1;
    const EventKind kinds[] = {EventKind::kMetrics, EventKind::kCheckpoint, EventKind::kStarted};
    const EventKind kind = first == 1 ? EventKind::kStarted : kinds[Below(3)];
    core_->Report({SenderOf(live.worker),
                   live.key,
                   first,
                   {Line(first, kind, first, kind == EventKind::kStarted ? 0 : first)}},
                  [](const absl::StatusOr<std::int64_t>&) {});
  }
  void WorkerSpeaks() {
    const std::vector<Live> all = LiveAttempts();
    if (all.empty()) return;
    const Live& live = all[Below(all.size())];
    switch (Below(8)) {
      case 0:
        core_->CommandsFor(live.worker);
        break;
      case 1:
        Say(live, St::kStarting);
        break;
      case 2: {
        const int exits[] = {0, 1, 75, 78, 137};
        const char* verdicts[] = {"", "finished", "yielded", "failed", "stopped"};
        Say(live, Below(5) == 0 ? St::kRefused : St::kEnded, exits[Below(5)], verdicts[Below(5)]);
        break;
      }
      default:
        Lines(live);
    }
  }
  void World() {
    switch (Below(8)) {
      case 0:
        RegisterAll(Below(3) != 0);
        break;
      case 1:
        clock_.Advance(absl::Seconds(static_cast<double>(Below(8))));
        break;
      case 2:
        if (Below(10) == 0) clock_.Advance(absl::Seconds(60));
        break;
      case 3:
        if (Below(3) == 0) disk_->failures.push_back(absl::UnavailableError("injected"));
        break;
      default:
        for (const char* worker : {"w0", "w1"})
          core_->Heartbeat({SenderOf(worker), ++heartbeats_, 0, {}}).IgnoreError();
    }
  }
  /// `honest`: they still know what they run.
  void RegisterAll(bool honest) {
    for (const char* worker : {"w0", "w1"}) {
      RegisterRequest request = Registration(worker, 2);
      for (const Live& live : LiveAttempts()) {
        if (live.worker == worker && (honest || Below(2) == 0))
          request.attempts.push_back({live.key, true});
      }
      core_->Register(request).IgnoreError();
    }
  }
  void CheckRecords() {
    ASSERT_EQ(core_->refused_events(), 0);
    for (const std::string& name : core_->state().sweep_order()) {
      const SweepRecord& sweep = *core_->state().sweep(name);
      std::array<std::int64_t, 12> counts{};
      for (const TrialRecord& trial : sweep.trials) {
        ++counts[static_cast<std::size_t>(trial.state)];
        ASSERT_EQ(sweep.pending.contains(trial.index), trial.state == TrialState::kPending);
        ASSERT_EQ(sweep.live.contains(trial.index), IsLive(trial.state));
        int running = 0;
        for (const AttemptRecord& a : trial.attempts) running += a.outcome == "running" ? 1 : 0;
        ASSERT_EQ(running, IsLive(trial.state) ? 1 : 0);
        if (IsLive(trial.state)) {
          ASSERT_EQ(trial.attempts.back().stop_wanted != StopWanted::kNone,
                    trial.state == TrialState::kCheckpointing);
        }
      }
      ASSERT_EQ(counts, sweep.counts);
      ASSERT_EQ(sweep.AllEnded(), HasEnded(sweep.state)) << name;
    }
  }
  /// Does what is asked: those told to stop yield, the others finish.
  void Heal() {
    RegisterAll(true);
    for (const std::string& name : core_->state().sweep_order()) {
      if (core_->state().sweep(name)->state == SweepState::kPaused)
        core_->ResumeSweep(name, {}).IgnoreError();
      const SweepRecord& sweep = *core_->state().sweep(name);
      for (std::size_t i = 0; i < sweep.trials.size(); ++i) {
        if (sweep.trials[i].state == TrialState::kPaused)
          core_->ChangeTrial(TrialVerb::kResume, name, TrialNameOf(static_cast<int>(i)), {})
              .IgnoreError();
      }
    }
    core_->Tick();
    for (const Live& live : LiveAttempts()) {
      Say(live, St::kEnded, live.told ? 75 : 0, live.told ? "yielded" : "finished");
      core_->Tick();
    }
    clock_.Advance(absl::Seconds(1));
    core_->Tick();
  }

  Random random_{static_cast<std::uint64_t>(GetParam())};
};

TEST_P(LifecyclePropertyTest, StaysLegalAndEnds) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  for (const char* name : {"s0", "s1", "s2"}) Create(MakeSpec(name, 3));
  RegisterAll(true);
  for (int step = 0; step < 600; ++step) {
    const std::uint64_t what = Below(6);
    if (what == 0) {
      Verb();
    } else if (what == 1) {
      World();
    } else {
      WorkerSpeaks();
    }
    if (Below(3) == 0) core_->Tick();
    if (step % 20 == 19) {
      ASSERT_NO_FATAL_FAILURE(CheckRecords()) << "step " << step;
    }
    if (step % 100 != 99) continue;
    disk_->failures.clear();
    if (!core_->disk().ok()) clock_.Advance(absl::Seconds(1));
    core_->Tick();
    ASSERT_TRUE(core_->Flush().ok());
    CheckReplay();
    if (Below(2) == 0) Restart();
  }
  disk_->failures.clear();
  bool ended = false;
  for (int round = 0; round < 400 && !ended; ++round) {
    Heal();
    ended = true;
    for (const std::string& name : core_->state().sweep_order())
      ended = ended && HasEnded(core_->state().sweep(name)->state);
  }
  ASSERT_NO_FATAL_FAILURE(CheckRecords());
  EXPECT_TRUE(ended) << core_->state().DebugString();
  CheckReplay();
}

INSTANTIATE_TEST_SUITE_P(Seeds, LifecyclePropertyTest, ::testing::Range(1, 61));

}  // namespace
}  // namespace sae::server::testing
