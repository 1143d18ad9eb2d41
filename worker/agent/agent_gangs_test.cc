// What the agent holds for gangs over several workers.
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/agent.h"
#include "worker/agent/testing/fake_coordinator.h"
#include "worker/agent/testing/world.h"
#include "worker/rsh/peers_file.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const AttemptKey kKey{"demo", "0000", 1};

class AgentGangsTest : public testing::Test {
 protected:
  ~AgentGangsTest() override {
    agent_.reset();
    sae::SignalProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id()}}, SIGKILL);
  }

  void StartAgent(bool with_peers = true) {
    Agent::Options options;
    options.env = &sae::RealEnv();
    options.clock = &sae::RealClock();
    options.runs = runs_.get();
    options.metrics = &metrics_;
    options.slots = ChooseSlots(3, 3, 0);
    options.gpus = {"0", "1", "2"};
    options.gang = world_.Gang("run");
    options.gang.rsh = "/bin/false";
    if (with_peers) options.reservations = &reservations_;
    options.rack = "r1";
    options.peer_address = "10.0.0.1:7";
    options.mpi_host = "10.0.0.1";
    options.channel = MakeChannel(coordinator_.address());
    options.coordinator = coordinator_.address();
    options.boot_id = *sae::BootId();
    options.incarnation = "I1";
    options.version = "test";
    options.tick = absl::Milliseconds(5);
    agent_ = std::make_unique<Agent>(std::move(options));
    ASSERT_TRUE(agent_->Start().ok());
  }
  v1::PrepareAttempt Prepare(int slots, const AttemptKey& key = kKey) const {
    v1::PrepareAttempt prepare;
    SetKey(key, &prepare);
    prepare.set_slots(slots);
    prepare.set_token("t");
    prepare.set_store(world_.store());
    prepare.set_store_hash(world_.store_hash());
    return prepare;
  }
  static v1::ReleaseAttempt Release(const AttemptKey& key = kKey) {
    v1::ReleaseAttempt release;
    SetKey(key, &release);
    return release;
  }
  v1::AttemptStatus Last(const AttemptKey& key = kKey) const {
    const auto statuses = coordinator_.Statuses(key);
    return statuses.empty() ? v1::AttemptStatus() : statuses.back();
  }

  World world_;
  std::unique_ptr<RunsFolder> runs_ = world_.OpenRuns();
  Metrics metrics_{"test"};
  Reservations reservations_;
  FakeCoordinator coordinator_{absl::Milliseconds(20), absl::Seconds(60)};
  std::unique_ptr<Agent> agent_;
};

TEST_F(AgentGangsTest, PreparesOnceAndHoldsUntilReleased) {
  StartAgent();
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 3; }));
  const auto first = coordinator_.registers().front();
  EXPECT_EQ(first.rack(), "r1");
  EXPECT_EQ(first.peer_address(), "10.0.0.1:7");
  EXPECT_EQ(first.mpi_host(), "10.0.0.1");
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  EXPECT_EQ(Last().state(), v1::AttemptStatus::STATE_PREPARED);
  EXPECT_EQ(reservations_.gpus(), (std::set<std::string>{"0", "1"}));
  // A coordinator that comes back hears of it.
  coordinator_.TakeDown();
  coordinator_.BringUp();
  ASSERT_TRUE(Eventually([&] { return coordinator_.registers().size() > 1; }));
  ASSERT_EQ(coordinator_.registers().back().attempts_size(), 1);
  EXPECT_EQ(KeyOf(coordinator_.registers().back().attempts(0)), kKey);
  EXPECT_THAT(coordinator_.Statuses(kKey), SizeIs(1)) << "repeated commands prepare nothing anew";
  coordinator_.Command(Release());
  ASSERT_TRUE(
      Eventually([&] { return coordinator_.Ended(kKey) && coordinator_.free_slots() == 3; }));
  EXPECT_THAT(Last().reason(), HasSubstr("released"));
  EXPECT_FALSE(reservations_.Holds(kKey)) << "a late Prepare holds nothing";
}

TEST_F(AgentGangsTest, RefusesWhatItCannotHold) {
  StartAgent();
  coordinator_.Command(Prepare(4));
  const AttemptKey other{"demo", "0001", 1};
  auto elsewhere = Prepare(1, other);
  elsewhere.set_store("/no/such/store");
  coordinator_.Command(elsewhere);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kKey) && coordinator_.Ended(other); }));
  EXPECT_EQ(Last().state(), v1::AttemptStatus::STATE_REFUSED);
  EXPECT_THAT(Last().reason(), HasSubstr("needs 4 slots, 3 of 3 are free"));
  EXPECT_THAT(Last(other).reason(), HasSubstr("/no/such/store"));
  EXPECT_EQ(reservations_.slots(), 0);
}

TEST_F(AgentGangsTest, WithoutAPeerServiceItTakesPartInNone) {
  StartAgent(false);
  coordinator_.Command(Prepare(1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kKey); }));
  EXPECT_THAT(Last().reason(), HasSubstr("--peer-listen"));
}

TEST_F(AgentGangsTest, AReleaseOfWhatIsNotThereIsAnswered) {
  StartAgent();
  coordinator_.Command(Release());
  EXPECT_TRUE(Eventually([&] { return coordinator_.Ended(kKey); }));
}

TEST_F(AgentGangsTest, WhatTheCoordinatorHasForgottenIsLetGo) {
  StartAgent();
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  coordinator_.TakeDown();
  coordinator_.Forget(kKey);
  coordinator_.BringUp();
  EXPECT_TRUE(Eventually([&] { return coordinator_.free_slots() == 3; }));
}

TEST_F(AgentGangsTest, WhatTheLeaseHasEndedIsSaid) {
  StartAgent();
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  reservations_.EndAll();  // as when the lease ends
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kKey); }))
      << "a head that has prepared and starts nothing would be waited for without end";
  EXPECT_EQ(Last().state(), v1::AttemptStatus::STATE_ENDED);
  EXPECT_EQ(Last().failure_class(), v1::RENDEZVOUS_TIMEOUT);
}

TEST_F(AgentGangsTest, TheHeadTakesOverWhatItHeldAndTellsRshItsPeers) {
  StartAgent();
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  auto start = world_.Start("0000", 1);
  start.set_slots(4);
  start.mutable_config()->set_ranks(4);
  start.set_token("t");
  for (const char* host : {"10.0.0.1", "10.0.0.2"}) {
    auto& h = *start.add_hosts();
    h.set_worker(host);
    h.set_slots(2);
    h.set_mpi_host(host);
    h.set_peer_address(absl::StrCat(host, ":7"));
  }
  coordinator_.Command(start);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kKey).size() > 1; }));
  EXPECT_EQ(coordinator_.free_slots(), 1) << "its own part of the gang, once";
  EXPECT_FALSE(reservations_.Holds(kKey));
  EXPECT_TRUE(Eventually([&] {
    return metrics_.Page().find(R"(allocation_info{gpu="1",sweep="demo",trial="0000"} 1)") !=
           std::string::npos;
  }));
  EXPECT_THAT(sae::FindProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id(),
                                            "CUDA_VISIBLE_DEVICES=0,1", "OMPI_MCA_plm=rsh"}}),
              SizeIs(1));
  const auto peers = rsh::ReadPeersFile(
      sae::RealEnv(),
      PeersPath(world_.Gang("run"), {.key = kKey, .runs_id = runs_->runs_id(), .directory = {}}));
  ASSERT_TRUE(peers.ok()) << peers.status();
  EXPECT_EQ(peers->token, "t");
  EXPECT_EQ(peers->addresses.at("10.0.0.2"), "10.0.0.2:7");
  coordinator_.Command(Release());
  ASSERT_TRUE(
      Eventually([&] { return coordinator_.Ended(kKey) && coordinator_.free_slots() == 3; }));
}

TEST_F(AgentGangsTest, AStartThatIsRefusedLeavesNothingOfWhatWasHeld) {
  StartAgent();
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  const auto scratch = [&] { return *sae::RealEnv().List(world_.folder() / "shm"); };
  EXPECT_THAT(scratch(), SizeIs(1));
  auto start = world_.Start("0000", 1);
  start.mutable_config()->mutable_sae()->set_k(33);  // more than there are latents
  coordinator_.Command(start);
  ASSERT_TRUE(
      Eventually([&] { return coordinator_.Ended(kKey) && coordinator_.free_slots() == 3; }));
  EXPECT_EQ(Last().state(), v1::AttemptStatus::STATE_REFUSED);
  EXPECT_THAT(scratch(), SizeIs(0));
}

TEST_F(AgentGangsTest, TwoHostsOfOneNameAreRefused) {
  StartAgent();
  auto start = world_.Start("0000", 1);
  start.mutable_config()->set_ranks(2);
  for (int i = 0; i < 2; ++i) {
    auto& h = *start.add_hosts();
    h.set_worker("w");
    h.set_slots(1);
    h.set_mpi_host("same");
    h.set_peer_address("same:7");
  }
  coordinator_.Command(start);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kKey); }));
  EXPECT_THAT(Last().reason(), HasSubstr("two workers of the gang have the host name same"));
  EXPECT_EQ(Last().failure_class(), v1::INVALID_CONFIG);
}

TEST_F(AgentGangsTest, ShutdownLetsGoOfWhatDoesNotRun) {
  StartAgent();
  coordinator_.Command(Prepare(2));
  ASSERT_TRUE(Eventually([&] { return coordinator_.free_slots() == 1; }));
  agent_->BeginShutdown(absl::Hours(1));
  EXPECT_TRUE(Eventually([&] { return agent_->Quiet(); }));
}

}  // namespace
}  // namespace saeloom::agent
