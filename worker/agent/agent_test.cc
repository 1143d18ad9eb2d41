#include "worker/agent/agent.h"

#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/event_log.h"
#include "worker/agent/testing/fake_coordinator.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const AttemptKey kFirst{"demo", "0000", 1};

class AgentTest : public testing::Test {
 protected:
  ~AgentTest() override {
    agent_.reset();
    if (!runs_) runs_ = world_.OpenRuns();
    sae::SignalProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id()}}, SIGKILL);
  }

  /// A worker process: what is on disk stays between two of them.
  void StartAgent(const std::string& mode, const std::string& incarnation = "I1", int slots = 2) {
    if (!runs_) runs_ = world_.OpenRuns();
    Agent::Options options;
    options.env = &sae::RealEnv();
    options.clock = &sae::RealClock();
    options.runs = runs_.get();
    options.metrics = &metrics_;
    options.slots = ChooseSlots(slots, slots, 0);
    options.gpus = gpus_;
    options.gang = world_.Gang(mode);
    options.channel = MakeChannel(coordinator_.address());
    options.coordinator = coordinator_.address();
    options.boot_id = *sae::BootId();
    options.incarnation = incarnation;
    options.version = "test";
    options.tick = absl::Milliseconds(5);
    agent_ = std::make_unique<Agent>(std::move(options));
    ASSERT_TRUE(agent_->Start().ok());
  }

  bool NothingRuns() const {
    return sae::FindProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id()}}).empty();
  }
  std::int64_t OnDisk(const AttemptKey& key) const {
    const auto last = EventLog(runs_->AttemptDirectory(key) + "/events.jsonl").Last();
    return last ? last->seq : 0;
  }
  /// Every line of the file, in order, each once.
  void ExpectExactlyOnce(const AttemptKey& key) const {
    const auto lines = coordinator_.Lines(key);
    EXPECT_EQ(static_cast<std::int64_t>(lines.size()), OnDisk(key));
    for (std::size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(sae::config::ParseEvent(lines[i])->seq, static_cast<std::int64_t>(i) + 1);
    }
    EXPECT_EQ(coordinator_.gaps(), 0);
  }
  v1::AttemptStatus End(const AttemptKey& key) const {
    const auto statuses = coordinator_.Statuses(key);
    return statuses.empty() ? v1::AttemptStatus() : statuses.back();
  }

  /// Processes of gangs whose CUDA_VISIBLE_DEVICES is `gpus`.
  std::size_t RunOn(const std::string& gpus) const {
    return sae::FindProcesses(
               {.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id(), "CUDA_VISIBLE_DEVICES=" + gpus}})
        .size();
  }

  World world_;
  std::vector<std::string> gpus_;
  std::unique_ptr<RunsFolder> runs_;
  Metrics metrics_{"test"};
  // Long enough that only the tests of the lease see it end.
  FakeCoordinator coordinator_{absl::Milliseconds(20), absl::Seconds(60)};
  std::unique_ptr<Agent> agent_;
};

TEST_F(AgentTest, RunsAnAttemptAndReportsEachLineOnce) {
  StartAgent("finish:2000");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  ExpectExactlyOnce(kFirst);
  EXPECT_EQ(coordinator_.Lines(kFirst).size(), 2002U);
  const auto statuses = coordinator_.Statuses(kFirst);
  ASSERT_THAT(statuses, SizeIs(2));
  EXPECT_EQ(statuses[0].state(), v1::AttemptStatus::STATE_STARTING);
  EXPECT_EQ(statuses[1].state(), v1::AttemptStatus::STATE_ENDED);
  EXPECT_EQ(statuses[1].verdict(), "finished");
  EXPECT_TRUE(Eventually([&] { return agent_->Idle() && coordinator_.free_slots() == 2; }));
  EXPECT_TRUE(runs_->OpenAttempts()->empty());
  const auto first = coordinator_.registers().front();
  EXPECT_EQ(first.slots(), 2);
  EXPECT_EQ(first.runs_id(), runs_->runs_id());
  EXPECT_EQ(first.attempts_size(), 0);
  EXPECT_THAT(metrics_.Page(),
              HasSubstr("saeloom_worker_attempts_ended_total{verdict=\"finished\"} 1"));
}

TEST_F(AgentTest, KeepsAndDeletesCheckpointsAndSaysSoUntilItIsHeard) {
  StartAgent("finish:1");
  const std::string trial = runs_->directory() + "/demo/0000";
  for (const char* name : {"step-1", "step-2"}) {
    const std::string folder = trial + "/checkpoints/" + name;
    ASSERT_TRUE(sae::RealEnv().MakeDirectories(folder).ok());
    ASSERT_TRUE(
        sae::WriteFileAtomically(sae::RealEnv(), folder + "/manifest.json", R"({"files":[]})")
            .ok());
  }
  coordinator_.set_acknowledging(false);
  v1::KeepCheckpoint keep;
  keep.set_sweep("demo");
  keep.set_trial("0000");
  keep.set_name("step-1");
  coordinator_.Command(keep);
  ASSERT_TRUE(Eventually([&] { return !coordinator_.Checkpoints().empty(); }));
  EXPECT_THAT(coordinator_.Checkpoints(), testing::ElementsAre("KEPT step-1"));
  EXPECT_TRUE(sae::RealEnv().Exists(trial + "/kept/step-1/manifest.json"));
  coordinator_.TakeDown();
  coordinator_.BringUp();
  coordinator_.set_acknowledging(true);
  v1::DeleteCheckpoints remove;
  remove.set_sweep("demo");
  remove.set_trial("0000");
  remove.add_names("step-1");
  coordinator_.Command(remove);
  keep.set_name("../0001");
  coordinator_.Command(keep);  // no name: left out
  ASSERT_TRUE(Eventually([&] { return coordinator_.Checkpoints().size() == 2; }));
  EXPECT_THAT(coordinator_.Checkpoints(), testing::ElementsAre("KEPT step-1", "DELETED step-1"));
  EXPECT_FALSE(sae::RealEnv().Exists(trial + "/kept/step-1"));
  EXPECT_FALSE(sae::RealEnv().Exists(trial + "/checkpoints/step-1"));
  EXPECT_TRUE(sae::RealEnv().Exists(trial + "/checkpoints/step-2"));
}

TEST_F(AgentTest, LostAnswersAndFailuresRepeatNoLine) {
  StartAgent("finish:1500");
  coordinator_.FailReports(2, grpc::StatusCode::UNAVAILABLE, true);
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 512; }));
  coordinator_.FailReports(1, grpc::StatusCode::ABORTED, false);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  ExpectExactlyOnce(kFirst);
}

TEST_F(AgentTest, EndWaitsForItsReports) {
  StartAgent("finish:5");
  coordinator_.FailReports(1'000'000, grpc::StatusCode::UNAVAILABLE, false);
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return OnDisk(kFirst) == 7 && NothingRuns(); }));
  EXPECT_FALSE(coordinator_.Ended(kFirst));
  coordinator_.FailReports(0, grpc::StatusCode::OK, false);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  ExpectExactlyOnce(kFirst);
}

TEST_F(AgentTest, TellsTheLastLinesOfAnEarlierAttemptBeforeItsOwnEnd) {
  StartAgent("finish:5");
  // Its worker died before it could report them; the gang went on until its lease had passed.
  const std::string folder = runs_->AttemptDirectory(kFirst);
  ASSERT_TRUE(sae::RealEnv().MakeDirectories(folder).ok());
  std::ofstream events(folder + "/events.jsonl");
  for (int seq = 1; seq <= 700; ++seq) {
    sae::config::Event event;
    event.seq = seq;
    events << sae::config::ToJsonLine(event);
  }
  events.close();
  coordinator_.Command(world_.Start("0000", 2));
  const AttemptKey second{"demo", "0000", 2};
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(second); }));
  EXPECT_EQ(coordinator_.Lines(kFirst).size(), 700U);
  ExpectExactlyOnce(kFirst);
  ExpectExactlyOnce(second);
  EXPECT_FALSE(coordinator_.Ended(kFirst)) << "of its end it says nothing";
}

TEST_F(AgentTest, StatusesAreRepeatedUntilAcknowledged) {
  coordinator_.set_acknowledging(false);
  StartAgent("finish:1");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Statuses(kFirst).size() == 2; }));
  EXPECT_FALSE(runs_->OpenAttempts()->empty());
  coordinator_.set_acknowledging(true);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst) && agent_->Idle(); }));
  EXPECT_THAT(coordinator_.Statuses(kFirst), SizeIs(2)) << "the same two";
}

TEST_F(AgentTest, RestartedCoordinatorFindsTheAttemptRunning) {
  StartAgent("run");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 3; }));
  coordinator_.TakeDown();
  const std::int64_t before = OnDisk(kFirst);
  ASSERT_TRUE(Eventually([&] { return OnDisk(kFirst) > before; })) << "it goes on alone";
  coordinator_.BringUp();
  ASSERT_TRUE(Eventually(
      [&] { return static_cast<std::int64_t>(coordinator_.Lines(kFirst).size()) > before; }));
  const auto registers = coordinator_.registers();
  ASSERT_EQ(registers.back().attempts_size(), 1);
  EXPECT_TRUE(registers.back().attempts(0).running());
  v1::StopAttempt stop;
  SetKey(kFirst, &stop);
  stop.set_mode(v1::StopAttempt::MODE_CHECKPOINT);
  coordinator_.Command(stop);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  ExpectExactlyOnce(kFirst);
  EXPECT_EQ(End(kFirst).verdict(), "yielded");
}

TEST_F(AgentTest, UnwantedAttemptIsEndedWithoutAWord) {
  StartAgent("run");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 1; }));
  coordinator_.TakeDown();
  coordinator_.Forget(kFirst);
  coordinator_.BringUp();
  ASSERT_TRUE(Eventually([&] { return agent_->Idle(); }));
  EXPECT_TRUE(NothingRuns());
  EXPECT_FALSE(coordinator_.Ended(kFirst));
  EXPECT_TRUE(runs_->OpenAttempts()->empty());
}

TEST_F(AgentTest, StopNowKills) {
  StartAgent("stubborn");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() == 1; }));
  v1::StopAttempt stop;
  SetKey(kFirst, &stop);
  stop.set_mode(v1::StopAttempt::MODE_NOW);
  stop.set_reason("the sweep was cancelled");
  coordinator_.Command(stop);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  EXPECT_EQ(End(kFirst).reason(), "the sweep was cancelled");
  EXPECT_EQ(End(kFirst).exit_code(), 137);
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AgentTest, StopOfAnUnknownAttemptIsAnsweredAsEnded) {
  StartAgent("run");
  v1::StopAttempt stop;
  SetKey({"demo", "0009", 4}, &stop);
  stop.set_mode(v1::StopAttempt::MODE_NOW);
  coordinator_.Command(stop);
  EXPECT_TRUE(Eventually([&] { return coordinator_.Ended({"demo", "0009", 4}); }));
}

TEST_F(AgentTest, EachGangHasGpusOfItsOwnUntilItHasEnded) {
  gpus_ = {"7", "2", "5"};
  StartAgent("run", "I1", 3);
  const AttemptKey second{"demo", "0001", 1}, third{"demo", "0002", 1};
  auto two_ranks = world_.Start("0000", 1);
  two_ranks.set_slots(2);
  two_ranks.mutable_config()->set_ranks(2);
  coordinator_.Command(two_ranks);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 1; }));
  coordinator_.Command(world_.Start("0001", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(second).size() > 1; }));
  EXPECT_EQ(RunOn("7,2"), 1U);
  EXPECT_EQ(RunOn("5"), 1U);
  v1::StopAttempt stop;
  SetKey(kFirst, &stop);
  stop.set_mode(v1::StopAttempt::MODE_CHECKPOINT);
  coordinator_.Command(stop);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  coordinator_.Command(world_.Start("0002", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(third).size() > 1; }));
  EXPECT_EQ(RunOn("7,2"), 0U);
  EXPECT_EQ(RunOn("7"), 1U);
  EXPECT_EQ(RunOn("5"), 1U) << "the second gang kept its own";
}

TEST_F(AgentTest, RefusesWhatItCannotRun) {
  StartAgent("run");
  auto start = world_.Start("0000", 1);
  start.set_store("/no/such/store");
  coordinator_.Command(start);
  auto big = world_.Start("0001", 1);
  big.set_slots(3);
  coordinator_.Command(big);
  auto transcoder = world_.Start("0002", 1);
  transcoder.mutable_config()->mutable_sae()->set_transcoder(true);
  coordinator_.Command(transcoder);
  ASSERT_TRUE(Eventually([&] {
    return coordinator_.Ended(kFirst) && coordinator_.Ended({"demo", "0001", 1}) &&
           coordinator_.Ended({"demo", "0002", 1});
  }));
  EXPECT_EQ(End(kFirst).state(), v1::AttemptStatus::STATE_REFUSED);
  EXPECT_EQ(End(kFirst).failure_class(), v1::INVALID_CONFIG);
  EXPECT_THAT(End(kFirst).reason(), HasSubstr("/no/such/store"));
  EXPECT_THAT(End({"demo", "0001", 1}).reason(), HasSubstr("needs 3 slots"));
  EXPECT_THAT(End({"demo", "0002", 1}).reason(), HasSubstr("the store has no targets"));
}

TEST_F(AgentTest, ARestartedWorkerReportsWhatItOwes) {
  StartAgent("run");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 3; }));
  // Stopped with the coordinator away: the gang is killed, the end and the newest lines stay
  // unreported.
  coordinator_.FailReports(1'000'000, grpc::StatusCode::UNAVAILABLE, false);
  const std::int64_t before = OnDisk(kFirst);
  ASSERT_TRUE(Eventually([&] { return OnDisk(kFirst) > before + 3; }))
      << "lines nobody has reported";
  const std::string id = runs_->worker_id();
  coordinator_.TakeDown();
  agent_.reset();
  ASSERT_TRUE(NothingRuns());
  runs_.reset();
  coordinator_.FailReports(0, grpc::StatusCode::OK, false);
  coordinator_.BringUp();
  StartAgent("run", "I2");
  EXPECT_EQ(runs_->worker_id(), id);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); }));
  ExpectExactlyOnce(kFirst);
  EXPECT_EQ(End(kFirst).failure_class(), v1::NODE_LOST);
  EXPECT_EQ(coordinator_.registers().back().attempts_size(), 1);
  EXPECT_FALSE(coordinator_.registers().back().attempts(0).running());
}

TEST_F(AgentTest, LogsAreFetchedAndFollowed) {
  StartAgent("run");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 1; }));
  v1::FetchLogs fetch;
  SetKey(kFirst, &fetch);
  fetch.set_request(1);
  fetch.set_lines(5);
  coordinator_.Command(fetch);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Logs(1) == "mode run\n<end>"; }))
      << coordinator_.Logs(1);
  fetch.set_request(2);
  fetch.set_follow(true);
  coordinator_.Command(fetch);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Logs(2) == "mode run\n"; }));
  std::ofstream(runs_->AttemptDirectory(kFirst) + "/rank-0.log", std::ios::app) << "more\n";
  ASSERT_TRUE(Eventually([&] { return coordinator_.Logs(2) == "mode run\nmore\n"; }));
  v1::StopAttempt stop;
  SetKey(kFirst, &stop);
  stop.set_mode(v1::StopAttempt::MODE_NOW);
  coordinator_.Command(stop);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Logs(2) == "mode run\nmore\n<end>"; }));
}

TEST_F(AgentTest, ShutdownLetsGangsYieldAndReports) {
  StartAgent("run");
  coordinator_.Command(world_.Start("0000", 1));
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > 1; }));
  agent_->BeginShutdown(absl::Seconds(60));
  ASSERT_TRUE(Eventually([&] { return agent_->Quiet() && agent_->Idle(); }));
  EXPECT_EQ(End(kFirst).verdict(), "yielded");
  ExpectExactlyOnce(kFirst);
  agent_->Stop();
}

TEST(AgentLease, WithoutAnswerGangsYieldBeforeItEnds) {
  World world;
  auto runs = world.OpenRuns();
  Metrics metrics("test");
  FakeCoordinator coordinator(absl::Milliseconds(50), absl::Seconds(2));
  Agent::Options options;
  options.env = &sae::RealEnv();
  options.clock = &sae::RealClock();
  options.runs = runs.get();
  options.metrics = &metrics;
  options.slots = ChooseSlots(2, 2, 0);
  options.gang = world.Gang("run");
  options.gang.environment["FAKE_GANG_0001"] = "stubborn";
  options.channel = MakeChannel(coordinator.address());
  options.boot_id = *sae::BootId();
  options.incarnation = "I1";
  options.tick = absl::Milliseconds(5);
  Agent agent(std::move(options));
  ASSERT_TRUE(agent.Start().ok());
  const AttemptKey second{"demo", "0001", 1};
  coordinator.Command(world.Start("0000", 1));
  coordinator.Command(world.Start("0001", 1));
  ASSERT_TRUE(Eventually([&] {
    return coordinator.Lines(kFirst).size() > 1 && coordinator.Lines(second).size() == 1;
  }));
  coordinator.TakeDown();
  ASSERT_TRUE(Eventually([&] { return agent.Quiet(); })) << "the deaf one is killed, too";
  EXPECT_TRUE(sae::FindProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs->runs_id()}}).empty());
  EXPECT_THAT(metrics.Page(), HasSubstr("saeloom_worker_fences_total 1"));
  coordinator.BringUp();
  ASSERT_TRUE(Eventually([&] { return coordinator.Ended(kFirst) && coordinator.Ended(second); }));
  EXPECT_EQ(coordinator.Statuses(kFirst).back().verdict(), "yielded");
  EXPECT_EQ(coordinator.Statuses(second).back().verdict(), "");
  EXPECT_EQ(coordinator.Statuses(second).back().failure_class(), v1::NODE_LOST);
}

TEST(AgentAdoption, WhatDoesNotEndInTimeIsAnErrorThatNamesTheFolder) {
  World world;
  auto runs = world.OpenRuns();
  Metrics metrics("test");
  FakeCoordinator coordinator(absl::Milliseconds(50), absl::Seconds(60));
  const auto options = [&](const std::string& boot) {
    Agent::Options o;
    o.env = &sae::RealEnv();
    o.clock = &sae::RealClock();
    o.runs = runs.get();
    o.metrics = &metrics;
    o.slots = ChooseSlots(1, 1, 0);
    o.gang = world.Gang("run");
    o.channel = MakeChannel(coordinator.address());
    o.boot_id = boot;
    o.incarnation = "I1";
    o.tick = absl::Milliseconds(5);
    return o;
  };
  {
    // As a worker that dies leaves it: a record, and a process that nobody waits for.
    Attempt::Context context;
    context.env = &sae::RealEnv();
    context.clock = &sae::RealClock();
    context.runs = runs.get();
    context.gang = world.Gang("run");
    context.boot_id = "another boot";
    context.incarnation = "I0";
    const auto left = Attempt::Start(context, world.Start("0000", 1), absl::Hours(100'000));
    ASSERT_TRUE(left.ok()) << left.status();
    auto late = options(*sae::BootId());
    late.adopt_timeout = -absl::Seconds(1);
    const absl::Status status = Agent(std::move(late)).Start();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(sae::Message(status), HasSubstr(runs->directory()));
  }
  Agent agent(options(*sae::BootId()));
  EXPECT_TRUE(agent.Start().ok());
  EXPECT_TRUE(sae::FindProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs->runs_id()}}).empty());
}

TEST_F(AgentTest, TrialsOfOneGangAreReportedEachExactlyOnceAndHoldItsSlotsOnce) {
  StartAgent("finish:5", "I1", 1);
  v1::Command command;
  v1::StartAttempt& start = *command.mutable_start();
  start = world_.Start("0000", 1);
  for (const char* trial : {"0001", "0002"}) *start.add_with() = world_.Start(trial, 1);
  start.mutable_with(1)->set_store_hash("xxh3:other");  // cannot start: leaves the others alone
  coordinator_.Command(start);
  const AttemptKey second{"demo", "0001", 1}, third{"demo", "0002", 1};
  for (const AttemptKey& key : {kFirst, second}) {
    ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(key); })) << key.Text();
    EXPECT_EQ(coordinator_.Statuses(key).back().verdict(), "finished");
    EXPECT_EQ(coordinator_.Statuses(key).back().exit_code(), 0);
    ExpectExactlyOnce(key);
  }
  ASSERT_TRUE(Eventually([&] { return !coordinator_.Statuses(third).empty(); }));
  EXPECT_EQ(coordinator_.Statuses(third).back().state(), v1::AttemptStatus::STATE_REFUSED);
  EXPECT_TRUE(Eventually([&] { return NothingRuns(); }));
}

}  // namespace
}  // namespace saeloom::agent
