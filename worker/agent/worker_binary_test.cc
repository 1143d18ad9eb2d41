// saeloom-worker as a process, with a coordinator in this one and gangs that are played.

#include <csignal>
#include <map>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/event_log.h"
#include "worker/agent/lease.h"
#include "worker/agent/metrics.h"
#include "worker/agent/testing/fake_coordinator.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;

const AttemptKey kFirst{"demo", "0000", 1};

class WorkerBinaryTest : public testing::Test {
 protected:
  ~WorkerBinaryTest() override {
    worker_.reset();
    sae::SignalProcesses({.marks = {Mark()}}, SIGKILL);
  }

  std::string Mark() const { return "SAELOOM_TEST_WORLD=" + world_.folder().path(); }

  void StartWorker(const std::string& mode, const std::vector<std::string>& more = {}) {
    const GangOptions gang = world_.Gang(mode);
    sae::ProcessSpec spec;
    spec.argv = {SAELOOM_WORKER_PROGRAM,
                 "--coordinator",
                 coordinator_.address(),
                 "--runs",
                 Runs(),
                 "--name",
                 "w",
                 "--slots",
                 "2",
                 "--mpirun",
                 gang.mpirun,
                 "--trainer",
                 gang.trainer,
                 "--port-file",
                 PortFile()};
    spec.argv.insert(spec.argv.end(), more.begin(), more.end());
    spec.environment = environment_;
    spec.environment.insert({{"FAKE_GANG", mode}, {"SAELOOM_TEST_WORLD", world_.folder().path()}});
    spec.errors = LogPath();
    auto process = sae::Process::Spawn(spec);
    ASSERT_TRUE(process.ok()) << process.status();
    worker_ = *std::move(process);
  }
  void StartFirst() {
    coordinator_.Command(world_.Start("0000", 1));
    ASSERT_TRUE(Eventually([&] { return !coordinator_.Lines(kFirst).empty(); })) << Log();
  }
  int WaitForExit() {
    const auto exit = worker_->Wait(absl::Seconds(60));
    return exit.ok() && exit->has_value() ? (*exit)->ShellCode() : -1;
  }
  std::string Runs() const { return world_.folder() / "runs"; }
  std::string PortFile() const { return world_.folder() / "ports.json"; }
  std::string LogPath() const { return world_.folder() / "worker.log"; }
  std::string Log() const { return sae::RealEnv().Read(LogPath()).value_or(""); }
  std::vector<sae::ProcessInfo> Gangs() const {
    auto all = sae::FindProcesses({.marks = {Mark()}});
    std::erase_if(all, [&](const auto& p) { return worker_ && p.pid == worker_->pid(); });
    return all;
  }

  World world_;
  std::map<std::string, std::string> environment_;  ///< of the worker
  FakeCoordinator coordinator_{absl::Milliseconds(50), absl::Seconds(60)};
  std::unique_ptr<sae::Process> worker_;
};

TEST_F(WorkerBinaryTest, SigtermLetsGangsYieldAndReportsBeforeItExits) {
  StartWorker("run");
  StartFirst();
  EXPECT_THAT(*sae::RealEnv().Read(PortFile()), HasSubstr("\"metrics\":\"127.0.0.1:"));
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(WaitForExit(), 0) << Log();
  EXPECT_TRUE(coordinator_.Ended(kFirst));
  EXPECT_EQ(coordinator_.Statuses(kFirst).back().verdict(), "yielded");
  EXPECT_TRUE(Gangs().empty());
}

TEST_F(WorkerBinaryTest, SecondSignalEndsGangsAtOnce) {
  StartWorker("stubborn", {"--grace", "3600"});
  StartFirst();
  ASSERT_TRUE(worker_->Signal(SIGINT).ok());
  ASSERT_TRUE(Eventually([&] { return Log().find("asked to save") != std::string::npos; }));
  EXPECT_EQ(Gangs().size(), 1U);
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(WaitForExit(), 0) << Log();
  EXPECT_TRUE(Gangs().empty());
}

TEST_F(WorkerBinaryTest, GraceEnds) {
  StartWorker("stubborn", {"--grace", "0.2"});
  StartFirst();
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(WaitForExit(), 0) << Log();
  EXPECT_TRUE(Gangs().empty());
  EXPECT_EQ(coordinator_.Statuses(kFirst).back().failure_class(), v1::NODE_LOST);
}

TEST_F(WorkerBinaryTest, KilledAndRestartedItTakesItsGangsBack) {
  StartWorker("run");
  StartFirst();
  ASSERT_TRUE(worker_->Signal(SIGKILL).ok());
  ASSERT_EQ(WaitForExit(), 137);
  worker_.reset();
  const auto orphans = Gangs();
  ASSERT_EQ(orphans.size(), 1U) << "the gang is in a session of its own";
  const std::size_t reported = coordinator_.Lines(kFirst).size();
  StartWorker("run");
  ASSERT_TRUE(Eventually([&] { return coordinator_.Lines(kFirst).size() > reported + 3; }))
      << Log();
  ASSERT_EQ(Gangs().size(), 1U);
  EXPECT_EQ(Gangs()[0].pid, orphans[0].pid);
  EXPECT_FALSE(coordinator_.Ended(kFirst));
  const auto registers = coordinator_.registers();
  EXPECT_EQ(registers.front().worker_id(), registers.back().worker_id());
  EXPECT_NE(registers.front().incarnation(), registers.back().incarnation());
  ASSERT_EQ(registers.back().attempts_size(), 1);
  EXPECT_TRUE(registers.back().attempts(0).running());
  EXPECT_EQ(coordinator_.free_slots(), 1) << "its slots are its own";
  v1::StopAttempt stop;
  SetKey(kFirst, &stop);
  stop.set_mode(v1::StopAttempt::MODE_CHECKPOINT);
  coordinator_.Command(stop);
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); })) << Log();
  EXPECT_EQ(coordinator_.Statuses(kFirst).back().verdict(), "yielded");
  const auto last = EventLog(Runs() + "/demo/0000/attempts/1/events.jsonl").Last();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(static_cast<std::int64_t>(coordinator_.Lines(kFirst).size()), last->seq);
  EXPECT_EQ(coordinator_.gaps(), 0);
  EXPECT_TRUE(Gangs().empty());
}

TEST_F(WorkerBinaryTest, WhatEndedWhileItWasAwayIsReported) {
  StartWorker("run");
  StartFirst();
  ASSERT_TRUE(worker_->Signal(SIGKILL).ok());
  ASSERT_EQ(WaitForExit(), 137);
  worker_.reset();
  sae::SignalProcesses({.marks = {Mark()}}, SIGKILL);
  ASSERT_TRUE(Eventually([&] { return Gangs().empty(); }));
  StartWorker("run");
  ASSERT_TRUE(Eventually([&] { return coordinator_.Ended(kFirst); })) << Log();
  EXPECT_EQ(coordinator_.Statuses(kFirst).back().failure_class(), v1::NODE_LOST);
  EXPECT_THAT(coordinator_.Statuses(kFirst).back().reason(),
              HasSubstr("while its worker was away"));
  const auto last = EventLog(Runs() + "/demo/0000/attempts/1/events.jsonl").Last();
  EXPECT_EQ(static_cast<std::int64_t>(coordinator_.Lines(kFirst).size()), last->seq)
      << "also what was unreported";
  EXPECT_FALSE(coordinator_.registers().back().attempts(0).running());
}

TEST_F(WorkerBinaryTest, ARestartedOneThatNobodyAnswersEndsItsGangWithTheOldLease) {
  // The fence must not wait for a lease of its own.
  StartWorker("stubborn");
  StartFirst();
  ASSERT_TRUE(worker_->Signal(SIGKILL).ok());
  ASSERT_EQ(WaitForExit(), 137);
  worker_.reset();
  coordinator_.TakeDown();
  ASSERT_EQ(Gangs().size(), 1U);
  const absl::Duration now = sae::RealClock().SinceBoot();
  ASSERT_TRUE(
      WriteLeaseFile(sae::RealEnv(), Runs() + "/demo/0000/attempts/1/lease", now, now).ok());
  StartWorker("stubborn");
  EXPECT_TRUE(Eventually([&] { return Gangs().empty(); })) << Log();
}

TEST_F(WorkerBinaryTest, HandsOutTheGpusThatItWasGiven) {
  const std::string bin = world_.folder() / "bin";
  const std::string smi = "#!/bin/sh\necho 'GPU 0: a'\necho 'GPU 1: b'\necho 'GPU 2: c'\n";
  ASSERT_TRUE(sae::RealEnv().MakeDirectories(bin).ok());
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), bin + "/nvidia-smi", smi).ok());
  ASSERT_EQ(::chmod((bin + "/nvidia-smi").c_str(), 0755), 0);
  environment_ = {{"PATH", bin}, {"CUDA_VISIBLE_DEVICES", "2,0"}};
  StartWorker("run", {"--device", "cuda"});
  StartFirst();
  ASSERT_EQ(Gangs().size(), 1U);
  EXPECT_EQ(sae::FindProcesses({.marks = {Mark(), "CUDA_VISIBLE_DEVICES=2"}}).size(), 1U) << Log();
  const auto run =
      sae::config::ParseRunConfig(*sae::RealEnv().Read(Runs() + "/demo/0000/attempts/1/run.json"));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->run.device, "cuda");
  EXPECT_EQ(coordinator_.registers().back().gpus(), 2);
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(WaitForExit(), 0) << Log();
}

TEST_F(WorkerBinaryTest, UnreachableCoordinatorIsSaidAndWaitedFor) {
  coordinator_.TakeDown();
  StartWorker("run");
  ASSERT_TRUE(Eventually([&] {
    return Log().find("cannot register with " + coordinator_.address()) != std::string::npos;
  }));
  coordinator_.BringUp();
  EXPECT_TRUE(Eventually([&] { return !coordinator_.registers().empty(); }));
  coordinator_.TakeDown();
  ASSERT_TRUE(worker_->Signal(SIGTERM).ok());
  EXPECT_EQ(WaitForExit(), 0) << Log();
}

TEST_F(WorkerBinaryTest, BadFlagsAndTakenThingsAreOneClearError) {
  const auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), SAELOOM_WORKER_PROGRAM);
    sae::RealEnv().RemoveAll(LogPath()).IgnoreError();
    return sae::RunProcess(
               {.argv = flags, .environment = {{"CUDA_VISIBLE_DEVICES", ""}}, .errors = LogPath()},
               absl::Seconds(60))
        ->exit.ShellCode();
  };
  const std::vector<std::string> good = {"--coordinator", "127.0.0.1:1", "--runs",
                                         Runs(),          "--trainer",   "/bin/true"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), good.begin(), good.end());
    return more;
  };
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_EQ(run({"--runs", Runs()}), 2);
  EXPECT_THAT(Log(), HasSubstr("--coordinator"));
  EXPECT_EQ(run(with({"--slots", "-1"})), 2);
  EXPECT_EQ(run(with({"--name", "Not Good"})), 2);
  EXPECT_EQ(run(with({"--device", "tpu"})), 2);
  EXPECT_EQ(run(with({"--device", "cuda"})), 2);
  EXPECT_THAT(Log(), HasSubstr("--device cuda: no GPU here: use --device cpu"));
  EXPECT_EQ(run(with({"--mpirun", "/no/mpirun"})), 3);
  EXPECT_THAT(Log(), HasSubstr("--mpirun /no/mpirun"));
  Metrics taken("test");
  const std::string address = *taken.Expose("127.0.0.1:0");
  EXPECT_EQ(run(with({"--metrics-listen", address})), 6);
  EXPECT_THAT(Log(), HasSubstr(address));
  StartWorker("run");
  ASSERT_TRUE(Eventually([&] { return !coordinator_.registers().empty(); }));
  EXPECT_EQ(run(with({"--name", "w"})), 5);
  EXPECT_THAT(Log(), HasSubstr("already runs"));
}

}  // namespace
}  // namespace saeloom::agent
