// Random histories: after every restart the replayed state equals the live one, and the invariants
// hold.
#include <set>

#include "sae/base/random.h"
#include "server/core/core.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using St = AttemptStatus::State;

class ReplayTest : public CoreTest, public ::testing::WithParamInterface<int> {
 protected:
  ReplayTest() {
    options_.snapshot_events = GetParam() % 3 * 7;  // none, or very many
    Restart();
  }
  void Step() {
    switch (random_.Below(14)) {
      case 0:
        if (sweeps_ < 4) CreateRandom();
        break;
      case 1:
        if (sweeps_ > 0 && random_.Below(4) == 0) core_->CancelSweep(AnySweep()).IgnoreError();
        break;
      case 2:
        if (sweeps_ > 0) core_->RetryTrials(AnySweep(), {}, "").IgnoreError();
        break;
      case 3:
      case 4:
        RegisterRandom();
        break;
      case 5:
        clock_.Advance(absl::Seconds(static_cast<double>(random_.Below(6))));
        break;
      case 6:
        if (random_.Below(8) == 0) clock_.Advance(absl::Seconds(40));
        break;
      case 7:
        if (random_.Below(3) == 0) disk_->failures.push_back(absl::UnavailableError("injected"));
        break;
      default:
        WorkerSpeaks();
    }
    core_->Tick();
  }
  void CreateRandom() {
    auto spec = MakeSpec("s" + std::to_string(sweeps_), 1 + static_cast<int>(random_.Below(4)),
                         random_.Below(2) == 0 ? 1 : 2);
    spec.max_concurrent = static_cast<std::int64_t>(random_.Below(3));
    spec.pack = static_cast<std::int64_t>(random_.Below(4));
    if (core_->CreateSweep(PrepareSweep(spec, 100).value(), "").ok()) ++sweeps_;
  }
  std::string AnySweep() {
    return "s" + std::to_string(random_.Below(static_cast<std::uint64_t>(sweeps_)));
  }
  std::string AnyWorker() { return "w" + std::to_string(random_.Below(3)); }
  void RegisterRandom() {
    const std::string id = AnyWorker();
    incarnations_[id] += random_.Below(2);
    auto request = Registration(id, 2, random_.Below(2) == 0 ? "runs-a" : "runs-b",
                                std::to_string(incarnations_[id]));
    for (const auto& [key, worker] : LiveAttempts()) {
      if (worker == id && random_.Below(3) != 0)
        request.attempts.push_back({key, random_.Below(2) == 0});
    }
    core_->Register(request).IgnoreError();
  }
  std::vector<std::pair<AttemptKey, std::string>> LiveAttempts() const {
    std::vector<std::pair<AttemptKey, std::string>> out;
    for (const std::string& name : core_->state().sweep_order()) {
      const SweepRecord& sweep = *core_->state().sweep(name);
      for (const int index : sweep.live) {
        const AttemptRecord& attempt =
            sweep.trials[static_cast<std::size_t>(index)].attempts.back();
        out.push_back({{name, TrialNameOf(index), attempt.number}, attempt.worker});
      }
    }
    return out;
  }
  void WorkerSpeaks() {
    const auto live = LiveAttempts();
    if (live.empty()) return;
    const auto& [key, worker] = live[random_.Below(live.size())];
    const Sender sender{worker, std::to_string(incarnations_[worker]), core_->epoch()};
    HeartbeatRequest beat{sender, 1, 0, {}};
    AttemptStatus status;
    status.key = key;
    status.status_id = 1;
    switch (random_.Below(6)) {
      case 0:
        core_->CommandsFor(worker);
        status.state = St::kStarting;
        break;
      case 1:
        status.state = random_.Below(4) == 0 ? St::kRefused : St::kEnded;
        status.exit_code =
            static_cast<int>(std::vector<int>{0, 1, 75, 78, 93, 137}[random_.Below(6)]);
        status.verdict = std::vector<std::string>{"", "finished", "yielded", "failed",
                                                  "stopped"}[random_.Below(5)];
        break;
      default:
        return Send(sender, key);
    }
    beat.statuses.push_back(status);
    core_->Heartbeat(beat).IgnoreError();
  }
  void Send(const Sender& sender, const AttemptKey& key) {
    const std::int64_t first = core_->acknowledged(key) + 1;
    std::vector<std::string> lines;
    for (std::uint64_t i = 0; i <= random_.Below(4); ++i) {
      const std::int64_t seq = first + static_cast<std::int64_t>(i);
      const EventKind kind = seq == 1
                                 ? EventKind::kStarted
                                 : std::vector<EventKind>{EventKind::kMetrics,
                                                          EventKind::kMetrics,
                                                          EventKind::kEvaluation,
                                                          EventKind::kCheckpoint,
                                                          EventKind::kWarning,
                                                          EventKind::kFinished}[random_.Below(6)];
      lines.push_back(Line(seq, kind, seq * 10, static_cast<std::int64_t>(random_.Below(40))));
    }
    core_->Report({sender, key, first, lines}, [](const absl::StatusOr<std::int64_t>&) {});
  }
  void CheckInvariants() {
    ASSERT_EQ(core_->refused_events(), 0);
    std::map<std::string, int> used;
    std::set<std::string> gangs;
    for (const std::string& name : core_->state().sweep_order()) {
      const SweepRecord& sweep = *core_->state().sweep(name);
      for (const TrialRecord& trial : sweep.trials) {
        int running = 0;
        for (const AttemptRecord& a : trial.attempts) running += a.outcome == "running" ? 1 : 0;
        ASSERT_EQ(running, IsLive(trial.state) ? 1 : 0) << name << "/" << trial.index;  // I1
        if (IsLive(trial.state)) {
          const AttemptRecord& live = trial.attempts.back();
          const bool counted = !gangs.insert(GangOf(name, TrialNameOf(trial.index), live)).second;
          used[live.worker] += counted ? 0 : live.slots;
        }
        ASSERT_LE(trial.trial_faults, 3);  // I12
        ASSERT_LE(trial.lost_workers, 10);
      }
      ASSERT_EQ(sweep.AllEnded(), HasEnded(sweep.state)) << name;
      const auto events = core_->Read(name, 0, 1'000'000).value();
      for (std::size_t i = 0; i < events.size(); ++i)
        ASSERT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);  // I8
    }
    for (const auto& [worker, slots] : used) ASSERT_LE(slots, 2) << worker;  // I2, I6
  }

  Random random_{static_cast<std::uint64_t>(GetParam())};
  int sweeps_ = 0;
  std::map<std::string, std::uint64_t> incarnations_;
};

TEST_P(ReplayTest, ReplayEqualsLiveState) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  for (int step = 0; step < 400; ++step) {
    Step();
    if (step % 40 != 39) continue;
    disk_->failures.clear();
    if (!core_->disk().ok()) clock_.Advance(absl::Seconds(1));
    core_->Tick();
    ASSERT_TRUE(core_->Flush().ok());
    CheckInvariants();
    const std::string live = core_->state().DebugString();
    std::map<std::string, std::int64_t> heads;
    for (const std::string& name : core_->state().sweep_order()) heads[name] = core_->head(name);
    store_ = std::make_unique<MemoryStore>(disk_);
    auto replayed = Core::Start(options_, clock_, *store_);
    ASSERT_TRUE(replayed.ok()) << replayed.status();
    ASSERT_EQ((*replayed)->state().DebugString(), live);
    for (const auto& [name, head] : heads) ASSERT_EQ((*replayed)->head(name), head);
    core_ = std::move(*replayed);
    core_->Tick();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ReplayTest, ::testing::Range(1, 31));

}  // namespace
}  // namespace sae::server::testing
