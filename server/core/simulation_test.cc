// Whole histories in one thread: workers crash and come back, machines die, the coordinator
// restarts, its disk fails for a while, messages are lost and repeated. Ground truth is checked at
// every step; when the faults end, every sweep must succeed, each trial once, each step once. A
// failure prints its seed.
#include "server/testing/core_fixture.h"
#include "server/testing/sim_worker.h"

namespace sae::server::testing {
namespace {

constexpr int kTrials = 5;

class SimulationTest : public CoreTest, public ::testing::WithParamInterface<int> {
 protected:
  SimulationTest()
      : random_(static_cast<std::uint64_t>(GetParam())), world_{clock_, random_, options_.lease} {
    // The budget is not the subject here: the faults end at last.
    options_.retry.trial_attempts = options_.retry.worker_attempts = 1000;
    Restart();
    world_.core = core_.get();
    const auto shared = std::make_shared<SimDisk>();
    shared->runs_id = "shared";
    const auto own = std::make_shared<SimDisk>();
    own->runs_id = "own";
    workers_.emplace_back(world_, "a", 2, shared);
    workers_.emplace_back(world_, "b", 2, shared);
    workers_.emplace_back(world_, "c", 2, own);
  }
  void Faults() {
    world_.loss = world_.Chance(0.02) ? random_.Uniform() * 0.6 : world_.loss * 0.98;
    for (SimWorker& worker : workers_) {
      if (worker.up() && world_.Chance(0.003)) worker.Crash();
      if (!worker.up() && world_.Chance(0.02)) worker.Restart();
    }
    if (world_.Chance(0.0005)) workers_[0].Die();
    if (world_.Chance(0.004)) StopCoordinator();
    if (world_.Chance(0.01))
      disk_->failures.assign(random_.Below(6), absl::ResourceExhaustedError("injected"));
    if (world_.Chance(0.01)) clock_.JumpWall(absl::Seconds((random_.Uniform() - 0.5) * 7200));
  }
  void StopCoordinator() {
    world_.core = nullptr;
    core_.reset();
    down_until_ = clock_.SinceBoot() + absl::Seconds(random_.Uniform() * 25);
  }
  void Deliver() {
    if (!world_.late_heartbeats.empty() && world_.Chance(0.1)) {
      core_->Heartbeat(world_.late_heartbeats.back()).IgnoreError();
      world_.late_heartbeats.pop_back();
    }
    if (!world_.late_reports.empty() && world_.Chance(0.1)) {
      core_->Report(world_.late_reports.back(), [](const absl::StatusOr<std::int64_t>&) {});
      world_.late_reports.pop_back();
    }
  }
  void Step() {
    clock_.Advance(absl::Milliseconds(250));
    if (core_ == nullptr && clock_.SinceBoot() >= down_until_) {
      Restart();
      world_.core = core_.get();
    }
    if (core_ != nullptr) Deliver();
    for (SimWorker& worker : workers_) {
      worker.Tick();
      if (core_ != nullptr) core_->Tick();
    }
  }
  /// As a person does who has looked at the machines.
  void UncordonAll() {
    const auto cordons = core_->state().fleet().cordons;
    for (const auto& [worker, cordon] : cordons)
      ASSERT_TRUE(core_->UncordonWorker(worker, "").ok());
  }
  void CheckGroundTruth() {
    std::map<std::pair<std::string, std::string>, int> live;
    for (const SimWorker& worker : workers_) {
      for (const AttemptKey& key : worker.Running()) ++live[{key.sweep, key.trial}];
    }
    for (const SimWorker& worker : workers_) {
      ASSERT_LE(worker.Used(), worker.slots());
      ASSERT_LE(worker.most_together(), static_cast<std::size_t>(1 + GetParam() % 4));
    }
    for (const auto& [trial, n] : live) {
      ASSERT_EQ(n, 1) << trial.first << "/" << trial.second << " has " << n << " processes";
    }
    if (core_ != nullptr) {
      ASSERT_EQ(core_->refused_events(), 0);
    }
  }
  void CheckOutcome() {
    ASSERT_EQ(Sweep().state, SweepState::kSucceeded);
    for (const TrialRecord& trial : Sweep().trials) {
      int succeeded = 0;
      for (const AttemptRecord& a : trial.attempts) succeeded += a.outcome == "succeeded" ? 1 : 0;
      ASSERT_EQ(succeeded, 1) << trial.index;
      const auto series = core_->QueryMetrics(Sweep(), trial, {"train.loss"}, 0, false).value();
      ASSERT_EQ(series.size(), 1u) << trial.index;
      std::vector<std::int64_t> expected;
      for (std::int64_t s = 1; s <= world_.steps; ++s) expected.push_back(s);
      ASSERT_EQ(series[0].steps, expected) << "trial " << trial.index;
    }
    const auto events = core_->Read("s", 0, 1'000'000).value();
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
  }

  Random random_;
  SimWorld world_;
  std::vector<SimWorker> workers_;
  absl::Duration down_until_;
};

TEST_P(SimulationTest, EverySweepSucceedsOnceTheFaultsEnd) {
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam());
  config::SweepSpec spec = MakeSpec("s", kTrials);
  spec.pack = 1 + GetParam() % 4;
  Create(spec);
  for (int step = 0; step < 1200; ++step) {  // five minutes of faults
    Faults();
    Step();
    ASSERT_NO_FATAL_FAILURE(CheckGroundTruth()) << "step " << step;
  }
  world_.loss = 0;
  disk_->failures.clear();
  down_until_ = clock_.SinceBoot();
  for (SimWorker& worker : workers_) {
    if (!worker.up()) worker.Restart();
  }
  for (int step = 0; step < 4000; ++step) {
    Step();
    if (core_ != nullptr) UncordonAll();
    ASSERT_NO_FATAL_FAILURE(CheckGroundTruth()) << "healed, step " << step;
    if (core_ != nullptr && HasEnded(Sweep().state)) break;
  }
  ASSERT_NE(core_, nullptr);
  ASSERT_NO_FATAL_FAILURE(CheckOutcome());
  std::size_t most = 0;
  for (const SimWorker& worker : workers_) most = std::max(most, worker.most_together());
  if (GetParam() % 4 > 0) {
    EXPECT_GT(most, 1U) << "no gang of several trials was ever started";
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SimulationTest, ::testing::Range(1, 101));

}  // namespace
}  // namespace sae::server::testing
