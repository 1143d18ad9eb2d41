// Commits whose outcome is unknown, writes after another coordinator took over, old points.
#include <filesystem>

#include "server/store/sqlite_store.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;

class ReloadTest : public CoreTest {
 protected:
  void FailOnce(bool after) {
    disk_->failures = {absl::UnavailableError("disk i/o error")};
    disk_->fail_after = after;
  }
  /// Memory is what a fresh reading of the log gives.
  void ExpectTrue() {
    MemoryStore other(disk_);
    State state;
    ASSERT_TRUE(other.Replay([&](const LogEvent& e) { return state.Apply(e); }).ok());
    EXPECT_EQ(core_->state().DebugString(), state.DebugString());
    EXPECT_EQ(core_->refused_events(), 0);
  }
};

TEST_F(ReloadTest, ACommitThatFailedBeforeItWasDurableNeverHappened) {
  FailOnce(false);
  const auto prepared = PrepareSweep(MakeSpec("s", 1), 1000).value();
  EXPECT_TRUE(absl::IsUnavailable(core_->CreateSweep(prepared, "id")));
  EXPECT_TRUE(absl::IsUnavailable(core_->CreateSweep(prepared, "id"))) << "not before it is read";
  core_->Tick();
  EXPECT_EQ(core_->state().sweep("s"), nullptr);
  EXPECT_TRUE(core_->disk().ok());
  EXPECT_TRUE(core_->CreateSweep(prepared, "id").ok());
  ExpectTrue();
}

TEST_F(ReloadTest, ACommitThatWasDurableBeforeItFailedDidHappen) {
  FailOnce(true);
  const auto prepared = PrepareSweep(MakeSpec("s", 1), 1000).value();
  EXPECT_TRUE(absl::IsUnavailable(core_->CreateSweep(prepared, "id")));
  core_->Tick();
  ASSERT_NE(core_->state().sweep("s"), nullptr);
  EXPECT_TRUE(core_->CreateSweep(prepared, "id").ok()) << "the same request, answered again";
  EXPECT_EQ(core_->head("s"), 1);
  ExpectTrue();
}

TEST_F(ReloadTest, WorkersGoOnInTheSameEpoch) {
  for (const bool after : {false, true}) {
    SCOPED_TRACE(after);
    disk_ = std::make_shared<MemoryStore::Disk>();
    Restart();
    Create(MakeSpec("s", 2));
    Register(Registration("w", 2));
    ASSERT_EQ(core_->CommandsFor("w").size(), 2u);
    ASSERT_EQ(*Report("w", {"s", "0000", 1}, 1, {Line(1, EventKind::kStarted)}), 1);
    const std::int64_t epoch = core_->epoch();
    FailOnce(after);
    absl::StatusOr<std::int64_t> answer = 0;
    core_->Report({SenderOf("w"), {"s", "0000", 1}, 2, {Line(2, EventKind::kCheckpoint, 4)}},
                  [&](absl::StatusOr<std::int64_t> a) { answer = std::move(a); });
    EXPECT_TRUE(absl::IsUnavailable(answer.status()));
    core_->Tick();
    EXPECT_EQ(core_->epoch(), epoch);
    ASSERT_TRUE(Beat("w").ok());
    EXPECT_EQ(core_->acknowledged({"s", "0000", 1}), after ? 2 : 1);
    EXPECT_EQ(Trial(0).checkpoints.size(), after ? 1u : 0u);
    EXPECT_EQ(*Report("w", {"s", "0000", 1}, 2, {Line(2, EventKind::kCheckpoint, 4)}), 2);
    EXPECT_EQ(Trial(0).checkpoints.size(), 1u);
    EXPECT_EQ(StateOf(1), TrialState::kAllocated);
    EXPECT_EQ(core_->CommandsFor("w").size(), 1u) << "the one that has not started";
    ExpectTrue();
  }
}

TEST_F(ReloadTest, WhatWaitsForTheGroupIsToldAndComesAgain) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  ASSERT_EQ(*Report("w", {"s", "0000", 1}, 1, {Line(1, EventKind::kStarted)}), 1);
  FailOnce(false);
  EXPECT_TRUE(absl::IsUnavailable(core_->CancelSweep("s")));
  absl::StatusOr<std::int64_t> answer = 0;
  core_->Report({SenderOf("w"), {"s", "0000", 1}, 2, {Line(2, EventKind::kMetrics, 4)}},
                [&](absl::StatusOr<std::int64_t> a) { answer = std::move(a); });
  core_->Tick();
  EXPECT_TRUE(absl::IsUnavailable(answer.status()));
  EXPECT_EQ(*Report("w", {"s", "0000", 1}, 2, {Line(2, EventKind::kMetrics, 4)}), 2);
  ExpectTrue();
}

TEST_F(ReloadTest, AnotherCoordinatorsEpochEndsThisOne) {
  Create(MakeSpec("s", 1));
  MemoryStore other(disk_);
  ASSERT_TRUE(other.BeginEpoch().ok());
  EXPECT_TRUE(absl::IsAborted(core_->CancelSweep("s")));
  EXPECT_TRUE(absl::IsAborted(core_->disk()));
  core_->Tick();
  EXPECT_TRUE(absl::IsAborted(core_->CancelSweep("s")));
  EXPECT_EQ(core_->state().sweep("s")->cancel_requested, false);
}

TEST_F(ReloadTest, OldPointsGoButForTheNewestOfEachKind) {
  options_.keep_telemetry = absl::Hours(1);
  Restart();
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  std::vector<std::string> lines = {Line(1, EventKind::kStarted)};
  for (std::int64_t i = 1; i <= 20; ++i)
    lines.push_back(Line(1 + i, i % 5 == 0 ? EventKind::kEvaluation : EventKind::kMetrics, i));
  lines.push_back(Line(22, EventKind::kFinished, 20));
  ASSERT_EQ(*Report("w", {"s", "0000", 1}, 1, lines), 22);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  ASSERT_EQ(Sweep().state, SweepState::kSucceeded);
  core_->Tick();
  EXPECT_EQ(core_->oldest_kept("s"), 1);
  clock_.Advance(absl::Hours(2));
  for (int i = 0; i < 3; ++i) core_->Tick();
  EXPECT_EQ(core_->oldest_kept("s"), core_->head("s") + 1);
  std::vector<std::int64_t> steps;
  const std::vector<LogEvent> kept = core_->Read("s", 0, 100).value();
  for (const LogEvent& e : kept) {
    if (e.telemetry()) steps.push_back(std::get<Point>(e.body).step);
  }
  EXPECT_EQ(steps, (std::vector<std::int64_t>{19, 20}));
  Restart();
  EXPECT_EQ(core_->oldest_kept("s"), core_->head("s") + 1);
  const auto progress = core_->ProgressOf(Sweep(), Trial(0)).value();
  EXPECT_EQ(progress.step, 20);
  EXPECT_EQ(progress.metrics.size(), 2u);
}

TEST(TrimTest, SqliteTrimsInSlicesAsMemoryDoes) {
  std::string folder = ::testing::TempDir() + "/trim_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto sqlite = SqliteStore::Open(folder + "/c.db").value();
  MemoryStore memory(std::make_shared<MemoryStore::Disk>());
  Transaction t;
  for (std::int64_t seq = 1; seq <= 60; ++seq) {
    const std::string trial = TrialNameOf(static_cast<int>(seq * seq % 5));
    t.events.push_back({"s", seq, absl::UnixEpoch(), trial, Point{1, seq, seq, seq % 4 == 0, {}}});
  }
  for (EventStore* store : std::initializer_list<EventStore*>{sqlite.get(), &memory}) {
    ASSERT_TRUE(store->Commit(t).ok());
    std::int64_t after = 0;
    int slices = 0;
    for (; after < 50; ++slices) after = store->TrimTelemetry("s", after, 50, 7).value();
    EXPECT_GT(slices, 5);
    EXPECT_EQ(store->Trimmed().value(), (std::map<std::string, std::int64_t>{{"s", 50}}));
  }
  const auto left = sqlite->Read("s", 0, 100).value();
  const auto expected = memory.Read("s", 0, 100).value();
  ASSERT_EQ(left.size(), expected.size());
  EXPECT_LT(left.size(), 25u);
  for (std::size_t i = 0; i < left.size(); ++i) EXPECT_EQ(left[i].seq, expected[i].seq);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace sae::server::testing
