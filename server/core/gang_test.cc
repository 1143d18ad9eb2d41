// Gangs over several workers: two phases, and what ends them in each.
#include "server/testing/fleet_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using State = AttemptStatus::State;

using GangTest = FleetTest;

TEST_F(GangTest, AllReserveThenTheHeadAloneStarts) {
  StartGang();
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_EQ(Trial(0).attempts[0].hosts, (std::vector<HostShare>{{"a", 4}, {"b", 2}}));
  EXPECT_EQ(Trial(0).attempts[0].token.size(), 32U);
  EXPECT_EQ(Free("a"), 0);
  EXPECT_EQ(Free("b"), 0);
  EXPECT_THAT(Commands("a"), ElementsAre("prepare 4 for 1"));
  EXPECT_THAT(Commands("b"), ElementsAre("prepare 2 for 1"));
  ASSERT_TRUE(Beat("b", {Prepared()}).ok());
  EXPECT_THAT(Commands("b"), IsEmpty()) << "it has shown it done";
  EXPECT_THAT(Commands("a"), ElementsAre("prepare 4 for 1"));
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  EXPECT_TRUE(Trial(0).attempts[0].prepared);
  EXPECT_THAT(Commands("b"), IsEmpty());
  const auto commands = core_->CommandsFor("a");
  ASSERT_EQ(commands.size(), 1U);
  const auto& start = std::get<StartCommand>(commands[0]);
  ASSERT_EQ(start.hosts.size(), 2U);
  EXPECT_EQ(start.hosts[0].worker, "a");
  EXPECT_EQ(start.hosts[0].slots, 4);
  EXPECT_EQ(start.hosts[1].mpi_host, "b.local");
  EXPECT_EQ(start.hosts[1].peer_address, "b:7000");
  EXPECT_EQ(start.token, Trial(0).attempts[0].token);
  EXPECT_EQ(start.slots, 6);
  CheckReplay();
}

TEST_F(GangTest, WhenItIsOverThePeersAreToldUntilTheyShowNothing) {
  StartGang();
  PrepareBoth();
  ASSERT_TRUE(Beat("a", {Status("0000", 1, State::kStarting)}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kStarting);
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 0, "finished")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kSucceeded);
  EXPECT_EQ(Free("a"), 4);
  EXPECT_EQ(Free("b"), 0) << "its slots are held until it lets go";
  EXPECT_THAT(Commands("b"), ElementsAre("release 1"));
  EXPECT_THAT(Commands("b"), ElementsAre("release 1")) << "again, until it is done";
  ASSERT_TRUE(Beat("b", {Ended("0000", 1, 0, "")}).ok());
  EXPECT_THAT(Commands("b"), IsEmpty());
  EXPECT_EQ(Free("b"), 2);
  CheckReplay();
}

TEST_F(GangTest, APeerThatHasNothingLeftNeedNotSaySo) {
  StartGang();
  PrepareBoth();
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 0, "finished")}).ok());
  BeatFree("b", 2);
  EXPECT_THAT(Commands("b"), ElementsAre("release 1")) << "this may have been sent before";
  BeatFree("b", 2);
  EXPECT_THAT(Commands("b"), IsEmpty());
  EXPECT_EQ(Free("b"), 2);
}

TEST_F(GangTest, ARefusalReleasesAllAndTheNextAttemptHasANewNumber) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  ASSERT_TRUE(Beat("b", {Refused(1, "its store is not mounted")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kRendezvousTimeout);
  EXPECT_THAT(Trial(0).attempts[0].reason,
              HasSubstr("worker b refused its part: its store is not mounted"));
  EXPECT_THAT(Trial(0).attempts[0].suspects, ElementsAre("b"));
  EXPECT_THAT(Commands("a"), ElementsAre("release 1"));
  EXPECT_THAT(Commands("b"), IsEmpty());
  clock_.Advance(absl::Seconds(2));
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 0, "")}).ok());
  EXPECT_THAT(Commands("a"), ElementsAre("prepare 4 for 2"));
  EXPECT_THAT(Commands("b"), ElementsAre("prepare 2 for 2"));
  // What was said of the first attempt and comes now is of no use, and it is told to let go again.
  ASSERT_TRUE(Beat("b", {Prepared(1)}).ok());
  EXPECT_FALSE(Trial(0).attempts[1].prepared);
  EXPECT_THAT(Commands("b"), ElementsAre("prepare 2 for 2", "release 1"));
  CheckReplay();
}

/// A gang over "a" and "b" trains, "b" is not heard of for its lease; "c" and "d" could take over.
class LostPeerTest : public FleetTest {
 protected:
  void LosePeer() {
    StartGang();
    PrepareBoth();
    ASSERT_TRUE(Beat("a", {Status("0000", 1, State::kStarting)}).ok());
    Register(Peer("c", 4));
    Register(Peer("d", 2));
    for (int i = 0; i < 9; ++i) {
      clock_.Advance(absl::Seconds(2));
      for (const char* worker : {"a", "c", "d"}) ASSERT_TRUE(Beat(worker).ok());
    }
    ASSERT_EQ(StateOf(0), TrialState::kPending);
    ASSERT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kNodeLost);
    Pass(2);
  }
  void Pass(int seconds) {
    clock_.Advance(absl::Seconds(seconds));
    core_->Tick();
  }
};

TEST_F(LostPeerTest, NothingStartsWhileTheHeadMayTrainOn) {
  LosePeer();
  EXPECT_THAT(Commands("a"), ElementsAre("stop 0000/1", "release 1"));
  EXPECT_EQ(StateOf(0), TrialState::kPending) << "its head has not said that it is gone";
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 137, "")}).ok());
  ASSERT_EQ(StateOf(0), TrialState::kAllocated);
  CheckReplay();
}

TEST_F(LostPeerTest, NothingStartsAfterARestartEither) {
  LosePeer();
  Restart();
  Register(Peer("c", 4));
  Register(Peer("d", 2));
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  RegisterRequest head = Peer("a", 4);
  head.attempts.push_back({{"s", "0000", 1}, true});
  Register(head);
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 137, "")}).ok());
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
}

TEST_F(LostPeerTest, AHeadThatDoesNotComeBackIsWaitedForNoLongerThanItsLease) {
  LosePeer();
  Restart();
  Register(Peer("c", 4));
  Register(Peer("d", 2));
  Pass(17);
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  ASSERT_TRUE(Beat("c").ok());
  ASSERT_TRUE(Beat("d").ok());
  Pass(2);
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
}

TEST_F(GangTest, ACommitOfUnknownOutcomeThatEndsItLeavesNoHostWithItsSlots) {
  StartGang();
  PrepareBoth();
  ASSERT_TRUE(Beat("a", {Status("0000", 1, State::kStarting)}).ok());
  disk_->failures = {absl::UnavailableError("disk i/o error")};
  disk_->fail_after = true;
  const HeartbeatRequest last{SenderOf("a"), ++heartbeats_, 0, {Ended("0000", 1, 0, "finished")}};
  ASSERT_THAT(core_->Heartbeat(last)->status_acks, IsEmpty());
  core_->Tick();
  ASSERT_EQ(StateOf(0), TrialState::kSucceeded) << "it was written";
  EXPECT_THAT(Commands("b"), ElementsAre("release 1"));
  EXPECT_EQ(Free("b"), 0);
  ASSERT_TRUE(Beat("b", {Ended("0000", 1, 0, "")}).ok());
  EXPECT_EQ(Free("b"), 2);
  CheckReplay();
}

TEST_F(GangTest, ACommitOfUnknownOutcomeForgetsNoHostThatHasPrepared) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  disk_->failures = {absl::UnavailableError("disk i/o error")};
  EXPECT_FALSE(core_->PauseSweep("s", {}).ok());
  core_->Tick();
  EXPECT_THAT(Commands("a"), IsEmpty()) << "it will not say so again";
  ASSERT_TRUE(Beat("b", {Prepared()}).ok());
  EXPECT_TRUE(Trial(0).attempts[0].prepared);
}

TEST_F(GangTest, ThePreparationHasADeadline) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  for (int i = 0; i < 6; ++i) {
    clock_.Advance(absl::Seconds(5));
    ASSERT_TRUE(Beat("a").ok());
    ASSERT_TRUE(Beat("b").ok());
  }
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kRendezvousTimeout);
  EXPECT_THAT(Trial(0).attempts[0].reason, HasSubstr("worker b did not reserve slots within 30s"));
  EXPECT_THAT(Commands("b"), ElementsAre("release 1"));
}

TEST_F(GangTest, ALostHostEndsItBeforeAllHavePrepared) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  options_.prepare_timeout = absl::Hours(1);
  Restart();
  Register(Peer("a", 4));
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(absl::Seconds(5));
    ASSERT_TRUE(Beat("a").ok());
  }
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kNodeLost);
  EXPECT_THAT(Trial(0).attempts[0].reason, HasSubstr("worker b was not heard of"));
  EXPECT_THAT(Commands("a"), ElementsAre("release 1"));
}

TEST_F(GangTest, ALostHostEndsItWhileItRunsAndTheHeadIsStopped) {
  StartGang();
  PrepareBoth();
  ASSERT_TRUE(Beat("a", {Status("0000", 1, State::kStarting)}).ok());
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(absl::Seconds(5));
    ASSERT_TRUE(Beat("a").ok());
  }
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kNodeLost);
  EXPECT_THAT(Trial(0).attempts[0].reason, HasSubstr("worker b was not heard of"));
  EXPECT_THAT(Trial(0).attempts[0].suspects, ElementsAre("b"));
  EXPECT_THAT(Commands("a"), ElementsAre("stop 0000/1", "release 1"));
  EXPECT_EQ(Free("a"), 0) << "until it has shown its processes gone";
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 137, "")}).ok());
  EXPECT_EQ(Free("a"), 4);
  EXPECT_EQ(Trial(0).attempts.size(), 1U) << "the other host is gone";
  CheckReplay();
}

TEST_F(GangTest, AHostThatComesBackWithoutItsPartEndsIt) {
  StartGang();
  PrepareBoth();
  Register(Peer("b", 2, "2"));
  EXPECT_EQ(Trial(0).attempts[0].failure_class, FailureClass::kNodeLost);
  EXPECT_THAT(Trial(0).attempts[0].reason, HasSubstr("worker b came back without its part"));
}

TEST_F(GangTest, AHostThatComesBackBeforeAllHavePreparedIsAskedAgain) {
  StartGang();
  ASSERT_TRUE(Beat("b", {Prepared()}).ok());
  Register(Peer("b", 2, "2"));
  EXPECT_EQ(StateOf(0), TrialState::kAllocated);
  EXPECT_THAT(Commands("b"), ElementsAre("prepare 2 for 1"));
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  EXPECT_FALSE(Trial(0).attempts[0].prepared);
  ASSERT_TRUE(Beat("b", {Prepared()}, "2").ok());
  EXPECT_TRUE(Trial(0).attempts[0].prepared);
}

TEST_F(GangTest, ACoordinatorThatRestartsAsksAgain) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  Restart();
  RegisterRequest a = Peer("a", 4);
  a.attempts = {{{"s", "0000", 1}, true}};  // its reservation
  EXPECT_TRUE(Register(a).attempts.at(0).wanted);
  Register(Peer("b", 2));
  EXPECT_THAT(Commands("a"), IsEmpty()) << "it has shown that it holds its part";
  EXPECT_THAT(Commands("b"), ElementsAre("prepare 2 for 1"));
  ASSERT_TRUE(Beat("b", {Prepared()}).ok());
  EXPECT_THAT(Commands("a"), ElementsAre("start 1"));
}

TEST_F(GangTest, ACoordinatorThatRestartsOnceAllHavePreparedWaitsForTheHosts) {
  StartGang();
  PrepareBoth();
  Restart();
  RegisterRequest a = Peer("a", 4);
  a.attempts = {{{"s", "0000", 1}, true}};
  Register(a);
  EXPECT_THAT(Commands("a"), IsEmpty()) << "where b is, it has still to say";
  RegisterRequest b = Peer("b", 2);
  b.attempts = {{{"s", "0000", 1}, true}};
  EXPECT_TRUE(Register(b).attempts.at(0).wanted);
  EXPECT_THAT(Commands("a"), ElementsAre("start 1"));
}

TEST_F(GangTest, ACoordinatorThatRestartsWhenItIsOverHoldsWhatIsLeft) {
  StartGang();
  PrepareBoth();
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 0, "finished")}).ok());
  Restart();
  Register(Peer("a", 4));
  RegisterRequest b = Peer("b", 2);
  b.attempts = {{{"s", "0000", 1}, true}};
  EXPECT_FALSE(Register(b).attempts.at(0).wanted);
  EXPECT_EQ(Free("b"), 0);
  EXPECT_THAT(Commands("b"), ElementsAre("release 1"));
}

TEST_F(GangTest, WithoutADiskNothingIsPreparedYet) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  disk_->failures = {absl::ResourceExhaustedError("disk full")};
  HeartbeatRequest request{SenderOf("b"), ++heartbeats_, 0, {Prepared()}};
  EXPECT_THAT(core_->Heartbeat(request)->status_acks, IsEmpty()) << "it says so again";
  EXPECT_FALSE(Trial(0).attempts[0].prepared);
  EXPECT_THAT(core_->Heartbeat(request)->status_acks.size(), 1U);
  EXPECT_TRUE(Trial(0).attempts[0].prepared);
}

TEST_F(GangTest, CancelledBeforeItStartedItIsOverAtOnce) {
  StartGang();
  ASSERT_TRUE(Beat("a", {Prepared()}).ok());
  Commands("b");
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kCancelled);
  EXPECT_THAT(Commands("a"), ElementsAre("release 1"));
  EXPECT_THAT(Commands("b"), ElementsAre("release 1"));
}

TEST_F(GangTest, TheTokenIsNewForEachAttempt) {
  StartGang();
  const std::string first = Trial(0).attempts[0].token;
  ASSERT_TRUE(Beat("b", {Refused(1, "no")}).ok());
  clock_.Advance(absl::Seconds(2));
  ASSERT_TRUE(Beat("a", {Ended("0000", 1, 0, "")}).ok());
  ASSERT_EQ(Trial(0).attempts.size(), 2U);
  EXPECT_NE(Trial(0).attempts[1].token, first);
}

TEST_F(GangTest, SeveralTrialsInAGangStayOnOneWorker) {
  config::SweepSpec spec = WideSpec("s", 2, 6);
  spec.pack = 2;
  Create(spec);
  Register(Peer("a", 4));
  Register(Peer("b", 4));
  EXPECT_EQ(StateOf(0), TrialState::kPending);
  EXPECT_EQ(Reason(0), "needs 6 slots; the largest worker has 4");
}

}  // namespace
}  // namespace sae::server::testing
