// Sweeps whose trials begin from another's checkpoint, as far as the core goes.
#include "server/testing/lifecycle_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;
using S = Situation;

class ForkTest : public LifecycleTest {
 protected:
  /// "f", of one trial, from trial 0's checkpoint "step-5" in runs-a.
  absl::Status Fork(const RequestKey& request = {}) {
    auto prepared = PrepareSweep(MakeSpec("f", 1), 10).value();
    prepared.event.forked_from = "s/0000/step-5";
    prepared.event.fork_runs_id = "runs-a";
    return core_->CreateSweep(prepared, request, "ann");
  }
  void BringSource() {
    Bring(S::kRunning);
    ASSERT_TRUE(Report("w", {"s", "0000", 1}, 2, {Line(2, EventKind::kCheckpoint, 5)}).ok());
  }
  const StartCommand* StartOf(const std::vector<Command>& commands) const {
    for (const Command& command : commands) {
      if (const auto* start = std::get_if<StartCommand>(&command)) return start;
    }
    return nullptr;
  }
};

TEST_F(ForkTest, IsPlacedOnlyWhereItsSourceIsAndToldWhereToBegin) {
  BringSource();
  ASSERT_TRUE(Fork().ok());
  core_->Tick();
  EXPECT_EQ(Sweep("f").owner, "ann");
  EXPECT_EQ(Sweep("f").forked_from, "s/0000/step-5");
  Register(Registration("other", 4, "runs-b"));
  EXPECT_EQ(Trial(0, "f").state, TrialState::kPending);
  Register(Registration("w2", 1, "runs-a"));
  ASSERT_EQ(Trial(0, "f").state, TrialState::kAllocated);
  EXPECT_EQ(Trial(0, "f").attempts.back().worker, "w2");
  const auto commands = core_->CommandsFor("w2");
  const StartCommand* start = StartOf(commands);
  ASSERT_NE(start, nullptr);
  EXPECT_EQ(start->from_checkpoint, "/runs-a/s/0000/checkpoints/step-5");
  const auto own = core_->CommandsFor("other");
  ASSERT_NE(StartOf(own), nullptr);
  EXPECT_EQ(StartOf(own)->from_checkpoint, "") << "of the other sweep's trial";
  CheckReplay();
}

TEST_F(ForkTest, ItsSourceStaysWhenNewerCheckpointsCome) {
  BringSource();
  ASSERT_TRUE(Fork().ok());
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(
        Report("w", {"s", "0000", 1}, 3 + i, {Line(3 + i, EventKind::kCheckpoint, 6 + i)}).ok());
  std::vector<std::string> names;
  for (const CheckpointRecord& c : Trial(0).checkpoints) names.push_back(c.name);
  EXPECT_EQ(names, (std::vector<std::string>{"step-5", "step-7", "step-8"}));
  EXPECT_TRUE(Trial(0).checkpoints[0].is_protected);
  CheckReplay();
}

TEST_F(ForkTest, OutlivesItsSource) {
  BringSource();
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  End(137, "");
  ASSERT_EQ(Sweep().state, SweepState::kCancelled);
  ASSERT_TRUE(Fork().ok());
  ASSERT_TRUE(core_->DeleteSweep("s", "").ok());
  Restart();
  Register(Registration("w2", 1, "runs-a"));
  const auto commands = core_->CommandsFor("w2");
  ASSERT_NE(StartOf(commands), nullptr);
  EXPECT_EQ(StartOf(commands)->from_checkpoint, "/runs-a/s/0000/checkpoints/step-5");
  CheckReplay();
}

TEST_F(ForkTest, ARepeatedRequestForksOnce) {
  BringSource();
  ASSERT_TRUE(Fork("id").ok());
  const std::int64_t events = Events();
  ASSERT_TRUE(Fork("id").ok());
  EXPECT_EQ(Events(), events);
  EXPECT_EQ(core_->SweepOfRequest("id", true)->value_or(""), "f");
  EXPECT_EQ(core_->SweepOfRequest("id").status().code(), absl::StatusCode::kInvalidArgument)
      << "it was no CreateSweep";
  EXPECT_EQ(Fork().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace sae::server::testing
