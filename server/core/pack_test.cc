// Trials of a sweep in gangs on one stream: who is put together, and what becomes of each.
#include "server/testing/core_fixture.h"
#include "server/testing/plan_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using State = AttemptStatus::State;

SchedulableTrial Trial(int index, const std::string& stream = "x", std::int64_t pack = 0) {
  SchedulableTrial trial;
  trial.sweep = "s";
  trial.index = index;
  trial.stream = stream;
  trial.pack = pack;
  trial.memory = std::int64_t{1} << 30;
  return trial;
}
std::vector<SchedulableTrial> Trials(int n, std::int64_t pack = 0) {
  std::vector<SchedulableTrial> out;
  for (int i = 0; i < n; ++i) out.push_back(Trial(i, "x", pack));
  return out;
}
SchedulableWorker Worker(const std::string& id, int slots, std::int64_t gibibytes = 64) {
  SchedulableWorker worker = MakeWorker(id, slots, slots);
  worker.memory = gibibytes << 30;
  return worker;
}
/// Gangs as "worker: trials".
std::vector<std::string> Gangs(const std::vector<SchedulableTrial>& trials,
                               const std::vector<SchedulableWorker>& workers,
                               std::int64_t room = kNoLimit) {
  World world{trials, workers, {MakeTerms("s"), MakeTerms("t")}};
  world.sweeps[0].room = room;
  std::map<int, std::string> gangs;
  for (const Placement& p : PlanOf(world).placements) {
    if (p.sweep != 0) continue;
    std::string& text = gangs[p.leader];
    if (text.empty()) text = workers[p.takes[0].worker].id + ":";
    text += " " + std::to_string(p.trial);
  }
  std::vector<std::string> out;
  for (const auto& [first, text] : gangs) out.push_back(text);
  return out;
}

TEST(Pack, OfItsOwnAccordOnlyWhenTrialsOutnumberSlots) {
  EXPECT_THAT(Gangs(Trials(2), {Worker("a", 2)}), ElementsAre("a: 0", "a: 1"));
  EXPECT_THAT(Gangs(Trials(5), {Worker("a", 2)}), ElementsAre("a: 0 1 2", "a: 3 4"));
  EXPECT_THAT(Gangs(Trials(4), {Worker("a", 1), Worker("b", 1)}), ElementsAre("a: 0 1", "b: 2 3"));
  EXPECT_THAT(Gangs(Trials(20), {Worker("a", 1)}), ElementsAre("a: 0 1 2 3 4 5 6 7"));
}

TEST(Pack, MemoryBoundsAGang) {
  EXPECT_THAT(Gangs(Trials(6), {Worker("a", 1, 4)}), ElementsAre("a: 0 1 2"));
  EXPECT_THAT(Gangs(Trials(6, 6), {Worker("a", 2, 8)}), ElementsAre("a: 0 1 2", "a: 3 4 5"));
  // One that does not fit is tried alone, as ever.
  EXPECT_THAT(Gangs(Trials(2), {Worker("a", 1, 1)}), ElementsAre("a: 0"));
  // Unknown: nobody guesses, but a number is taken at its word.
  EXPECT_THAT(Gangs(Trials(4), {Worker("a", 1, 0)}), ElementsAre("a: 0"));
  EXPECT_THAT(Gangs(Trials(4, 3), {Worker("a", 1, 0)}), ElementsAre("a: 0 1 2"));
}

TEST(Pack, OffAndNumbers) {
  EXPECT_THAT(Gangs(Trials(4, 1), {Worker("a", 2)}), ElementsAre("a: 0", "a: 1"));
  EXPECT_THAT(Gangs(Trials(4, 4), {Worker("a", 2)}), ElementsAre("a: 0 1 2 3"));
  EXPECT_THAT(Gangs(Trials(5, 3), {Worker("a", 2)}), ElementsAre("a: 0 1 2", "a: 3 4"));
}

TEST(Pack, OnlyWhatCanShareAStreamAndMayStartThere) {
  std::vector<SchedulableTrial> trials = Trials(6, 6);
  trials[1].stream = "y";
  trials.erase(trials.begin() + 2);  // waits for its back-off
  trials.insert(trials.begin() + 2, Trial(7, "y", 6));
  trials[3].sweep = "t";
  trials[4].runs_id = "elsewhere";
  EXPECT_THAT(Gangs(trials, {Worker("a", 1)}), ElementsAre("a: 0 5"));
  trials[5].avoid = {"a"};
  EXPECT_THAT(Gangs(trials, {Worker("a", 1)}), ElementsAre("a: 0"));
  EXPECT_THAT(Gangs(Trials(6, 6), {Worker("a", 2)}, 3), ElementsAre("a: 0 1 2"));
}

class PackTest : public CoreTest {
 protected:
  /// Four trials in one gang on one slot of worker "w".
  void StartGang(std::int64_t pack = 4) {
    config::SweepSpec spec = MakeSpec("s", 4);
    spec.pack = pack;
    Create(spec);
    RegisterRequest request = Registration("w", 1);
    request.memory_bytes = std::int64_t{64} << 30;
    Register(request);
  }
  std::vector<std::string> Members(const StartCommand& start) {
    std::vector<std::string> out = {start.key.trial};
    for (const StartCommand& other : start.with) out.push_back(other.key.trial);
    return out;
  }
};

TEST_F(PackTest, OneCommandStartsAllAndTheyHoldTheSlotOnce) {
  StartGang();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(StateOf(i), TrialState::kAllocated);
    EXPECT_EQ(core_->state().sweep("s")->trials[static_cast<std::size_t>(i)].attempts[0].gang,
              "0000/1");
  }
  const auto commands = core_->CommandsFor("w");
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_THAT(Members(std::get<StartCommand>(commands[0])),
              ElementsAre("0000", "0001", "0002", "0003"));
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("w")), 0);
  // What has started is not sent again; the rest is, still as a gang.
  ASSERT_TRUE(
      Beat("w", {Status("0000", 1, State::kStarting), Status("0002", 1, State::kStarting)}).ok());
  const auto rest = core_->CommandsFor("w");
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_THAT(Members(std::get<StartCommand>(rest[0])), ElementsAre("0001", "0003"));
}

TEST_F(PackTest, TheSlotIsFreeWhenTheLastHasEnded) {
  StartGang();
  core_->CommandsFor("w");
  for (const char* trial : {"0000", "0001", "0002"})
    ASSERT_TRUE(Beat("w", {Ended(trial, 1, 0, "finished")}).ok());
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("w")), 0);
  ASSERT_TRUE(Beat("w", {Ended("0003", 1, 93, "failed")}).ok());
  EXPECT_EQ(core_->FreeSlots(core_->workers().at("w")), 1);
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
  EXPECT_EQ(StateOf(3), TrialState::kFailed);
}

TEST_F(PackTest, AfterADeathWithoutAWordEachIsTriedAlone) {
  StartGang();
  core_->CommandsFor("w");
  std::vector<AttemptStatus> ended;
  for (const char* trial : {"0000", "0001", "0002", "0003"})
    ended.push_back(Ended(trial, 1, 137, ""));
  ASSERT_TRUE(Beat("w", ended).ok());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(StateOf(i), TrialState::kPending);
  clock_.Advance(absl::Seconds(2));
  core_->Tick();
  const auto commands = core_->CommandsFor("w");
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_THAT(Members(std::get<StartCommand>(commands[0])), ElementsAre("0000"));
  EXPECT_EQ(std::get<StartCommand>(commands[0]).key.attempt, 2);
  EXPECT_EQ(Trial(0).attempts.back().gang, "");
}

TEST_F(PackTest, AfterAYieldTheyGoOnTogether) {
  StartGang();
  core_->CommandsFor("w");
  std::vector<AttemptStatus> ended;
  for (const char* trial : {"0000", "0001", "0002", "0003"})
    ended.push_back(Ended(trial, 1, 75, "yielded"));
  ASSERT_TRUE(Beat("w", ended).ok());
  clock_.Advance(absl::Seconds(2));
  core_->Tick();
  const auto commands = core_->CommandsFor("w");
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_THAT(Members(std::get<StartCommand>(commands[0])),
              ElementsAre("0000", "0001", "0002", "0003"));
  EXPECT_EQ(Trial(3).attempts.back().gang, "0000/2");
}

TEST_F(PackTest, ALostWorkerEndsEveryAttemptAndAReplayKnowsTheGang) {
  StartGang();
  core_->CommandsFor("w");
  const std::string before = core_->state().DebugString();
  Restart();
  EXPECT_EQ(core_->state().DebugString(), before);
  clock_.Advance(options_.lease + options_.lease_margin);
  core_->Tick();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(StateOf(i), TrialState::kPending);
    EXPECT_EQ(Trial(i).attempts[0].failure_class, FailureClass::kNodeLost);
  }
}

TEST_F(PackTest, CancellingTheSweepStopsEveryMember) {
  StartGang();
  core_->CommandsFor("w");
  ASSERT_TRUE(Beat("w", {Status("0000", 1, State::kStarting), Status("0001", 1, State::kStarting),
                         Status("0002", 1, State::kStarting), Status("0003", 1, State::kStarting)})
                  .ok());
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  int stops = 0;
  for (const Command& c : core_->CommandsFor("w"))
    stops += std::holds_alternative<StopCommand>(c) ? 1 : 0;
  EXPECT_EQ(stops, 4);
}

TEST_F(PackTest, WithoutSharedSettingsOrMemoryNobodyIsPacked) {
  config::SweepSpec spec = MakeSpec("s", 2);
  spec.parameters[0][0] = {"train.batch", config::Parameter::Kind::kValues, {"1000", "500"}};
  Create(spec);
  RegisterRequest request = Registration("w", 1);
  request.memory_bytes = std::int64_t{64} << 30;
  Register(request);
  const auto commands = core_->CommandsFor("w");
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_THAT(std::get<StartCommand>(commands[0]).with, IsEmpty());
}

}  // namespace
}  // namespace sae::server::testing
