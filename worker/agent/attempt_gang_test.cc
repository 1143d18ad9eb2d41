// Attempts of several trials in one gang: each begins and ends for itself.
#include <csignal>

#include <gtest/gtest.h>

#include "worker/agent/attempt.h"
#include "worker/agent/event_log.h"
#include "worker/agent/lease.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

class AttemptGangTest : public testing::Test {
 protected:
  AttemptGangTest() {
    context_ = {.env = &sae::RealEnv(),
                .clock = &sae::RealClock(),
                .runs = runs_.get(),
                .gang = world_.Gang("run"),
                .boot_id = *sae::BootId(),
                .incarnation = "I1"};
  }
  ~AttemptGangTest() override { sae::SignalProcesses({.marks = {Mark()}}, SIGKILL); }

  /// Trials 0000, 0001, 0002; `modes` of the first ones, the others run until they are asked not
  /// to.
  void Start(const std::vector<std::string>& modes = {}, int attempt = 1) {
    for (std::size_t i = 0; i < modes.size(); ++i)
      context_.gang.environment[absl::StrCat("FAKE_GANG_000", i)] = modes[i];
    std::vector<v1::StartAttempt> starts;
    for (const char* trial : {"0000", "0001", "0002"})
      starts.push_back(world_.Start(trial, attempt));
    const absl::Duration lease = sae::RealClock().SinceBoot() + absl::Hours(1);
    for (auto& a :
         Attempt::StartTogether(context_, {&starts[0], &starts[1], &starts[2]}, lease, {"4"})) {
      ASSERT_TRUE(a.ok()) << a.status();
      all_.push_back(*std::move(a));
    }
  }
  bool TickUntil(const std::function<bool()>& condition) {
    return Eventually([&] {
      for (auto& a : all_) a->Tick();
      return condition();
    });
  }
  bool AllHaveEvents() {
    return TickUntil([&] {
      return std::all_of(all_.begin(), all_.end(),
                         [](auto& a) { return EventLog(a->events_path()).Last().has_value(); });
    });
  }
  bool AllEnded() {
    return TickUntil(
        [&] { return std::all_of(all_.begin(), all_.end(), [](auto& a) { return a->ended(); }); });
  }
  std::string Mark() const { return "SAELOOM_RUNS_ID=" + runs_->runs_id(); }
  bool NothingRuns() const { return sae::FindProcesses({.marks = {Mark()}}).empty(); }
  absl::Duration Later() const { return sae::RealClock().SinceBoot() + absl::Hours(1); }

  World world_;
  std::unique_ptr<RunsFolder> runs_ = world_.OpenRuns();
  Attempt::Context context_;
  std::vector<std::unique_ptr<Attempt>> all_;
};

TEST_F(AttemptGangTest, OneThatIsDoneEndsWhileTheOthersGoOn) {
  Start({"finish:2"});
  ASSERT_TRUE(TickUntil([&] { return all_[0]->ended(); }));
  EXPECT_EQ(all_[0]->ending().verdict, "finished");
  EXPECT_EQ(all_[0]->ending().exit_code, 0);
  EXPECT_FALSE(all_[1]->ended());
  EXPECT_EQ(all_[0]->slots(), 0);
  EXPECT_EQ(all_[1]->slots(), 1);
  EXPECT_EQ(all_[1]->gang(), all_[2]->gang());
  ASSERT_TRUE(AllHaveEvents());
  for (auto& a : all_) a->Notice(StopCause::kShutdown, "the worker is shutting down", Later());
  ASSERT_TRUE(AllEnded());
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_EQ(all_[i]->ending().verdict, "yielded");
    EXPECT_EQ(all_[i]->ending().exit_code, 75);
  }
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptGangTest, TrialsShareTheirGangsGpusUntilTheLastOneEnds) {
  context_.gpus = {"4", "6"};
  Start({"finish:2"});
  const std::vector<std::string> one = {"6"};
  for (const auto& a : all_) {
    EXPECT_EQ(a->gpus(), one) << "4 is taken";
    EXPECT_EQ(ReadRecord(sae::RealEnv(), a->directory())->gpus, one);
    const auto run =
        sae::config::ParseRunConfig(*sae::RealEnv().Read(a->directory() + "/run.json"));
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_EQ(run->run.device, "cuda");
  }
  ASSERT_TRUE(TickUntil([&] { return all_[0]->ended(); }));
  EXPECT_TRUE(all_[0]->gpus().empty());
  EXPECT_EQ(all_[1]->gpus(), one);
  EXPECT_FALSE(sae::FindProcesses({.marks = {Mark(), "CUDA_VISIBLE_DEVICES=6"}}).empty());
  for (auto& a : all_) a->Kill(StopCause::kShutdown, "the worker is shutting down");
  ASSERT_TRUE(AllEnded());
  for (const auto& a : all_) EXPECT_TRUE(a->gpus().empty());
}

TEST_F(AttemptGangTest, OneThatFailsHasItsOwnVerdictAndTheOthersFinish) {
  Start({"fail:FAILED_PRECONDITION: the loss is nan", "finish:3", "finish:300"});
  ASSERT_TRUE(AllEnded());
  EXPECT_EQ(all_[0]->ending().verdict, "failed");
  EXPECT_EQ(all_[0]->ending().failure_class, v1::USER_ERROR);
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_EQ(all_[i]->ending().verdict, "finished");
    EXPECT_EQ(all_[i]->ending().exit_code, 0) << "mpirun's is of all trials together";
  }
}

TEST_F(AttemptGangTest, StoppingOneTakesItsLeaseAlone) {
  Start();
  ASSERT_TRUE(AllHaveEvents());
  all_[0]->Kill(StopCause::kCoordinator, "the coordinator has given it up");
  all_[1]->Notice(StopCause::kCoordinator, "stopped", Later());
  ASSERT_TRUE(TickUntil([&] { return all_[0]->ended() && all_[1]->ended(); }));
  EXPECT_EQ(all_[0]->ending().verdict, "yielded");
  EXPECT_EQ(all_[1]->ending().verdict, "yielded");
  EXPECT_FALSE(all_[2]->ended());
  EXPECT_FALSE(NothingRuns());
  all_[2]->Kill(StopCause::kCoordinator, "the coordinator has given it up");
  ASSERT_TRUE(AllEnded());
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptGangTest, GivingUpAllKillsTheGang) {
  Start({"stubborn", "stubborn", "stubborn"});
  ASSERT_TRUE(AllHaveEvents());
  for (auto& a : all_) a->Kill(StopCause::kCoordinator, "the sweep was cancelled");
  ASSERT_TRUE(AllEnded());
  for (const auto& a : all_) EXPECT_EQ(a->ending().verdict, "");
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptGangTest, ADeathWithoutAWordEndsEveryAttempt) {
  Start({"exit:137"});
  ASSERT_TRUE(AllEnded());
  for (const auto& a : all_) {
    EXPECT_EQ(a->ending().verdict, "");
    EXPECT_EQ(a->ending().exit_code, 137);
  }
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptGangTest, ANewAttemptOfOneThatHasLeftLeavesTheGangAlone) {
  Start({"finish:2"});
  ASSERT_TRUE(TickUntil([&] { return all_[0]->ended(); }));
  auto again = Attempt::Start(context_, world_.Start("0000", 2), Later());
  ASSERT_TRUE(again.ok()) << again.status();
  all_.push_back(*std::move(again));
  ASSERT_TRUE(TickUntil([&] { return all_[3]->ended(); }));
  EXPECT_FALSE(all_[1]->ended());
  EXPECT_FALSE(NothingRuns());
}

TEST_F(AttemptGangTest, AnotherIncarnationTakesTheGangBackForAllOfThem) {
  Start({"finish:2"});
  ASSERT_TRUE(TickUntil([&] { return all_[0]->ended(); }));
  ASSERT_TRUE(AllHaveEvents());
  std::vector<Attempt*> lost;
  for (auto& a : all_) lost.push_back(a.release());
  all_.clear();
  Attempt::AdoptedGangs gangs;
  for (const char* trial : {"0000", "0001", "0002"})
    all_.push_back(Attempt::Adopt(context_, {"demo", trial, 1}, gangs));
  EXPECT_TRUE(all_[0]->ended());
  EXPECT_FALSE(all_[1]->leaving());
  EXPECT_EQ(all_[1]->gang(), all_[2]->gang());
  all_[1]->Kill(StopCause::kCoordinator, "one is enough");
  ASSERT_TRUE(TickUntil([&] { return all_[1]->ended(); }));
  EXPECT_EQ(all_[1]->ending().verdict, "yielded") << "its lease was taken";
  EXPECT_FALSE(all_[2]->ended());
  all_[2]->Kill(StopCause::kCoordinator, "and the other");
  ASSERT_TRUE(AllEnded());
  EXPECT_TRUE(NothingRuns());
  for (Attempt* a : lost) delete a;
}

TEST_F(AttemptGangTest, ATakenLeaseIsADeadlineToTheTrainer) {
  Start();
  ASSERT_TRUE(AllHaveEvents());
  all_[1]->Notice(StopCause::kCoordinator, "enough", Later());
  const auto marks = ReadLeaseFile(sae::RealEnv(), all_[1]->directory() + "/lease");
  EXPECT_TRUE(all_[1]->ended() || (marks && marks->notice < absl::Seconds(1))) << "zero is none";
}

}  // namespace
}  // namespace saeloom::agent
