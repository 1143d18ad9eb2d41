#include "worker/agent/attempt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/event_log.h"
#include "worker/agent/testing/world.h"

namespace saeloom::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
constexpr absl::Duration kFar = absl::Hours(100'000);  // since boot

class AttemptTest : public testing::Test {
 protected:
  AttemptTest() {
    context_.env = &sae::RealEnv();
    context_.clock = &sae::RealClock();
    context_.runs = runs_.get();
    context_.boot_id = *sae::BootId();
    context_.incarnation = "I1";
  }
  ~AttemptTest() override {
    sae::SignalProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id()}}, SIGKILL);
  }

  std::unique_ptr<Attempt> Start(const std::string& mode, int attempt = 1,
                                 absl::Duration lease = kFar) {
    context_.gang = world_.Gang(mode);
    auto a = Attempt::Start(context_, world_.Start("0000", attempt), lease);
    EXPECT_TRUE(a.ok()) << a.status();
    return a.ok() ? *std::move(a) : nullptr;
  }
  static bool RunToEnd(Attempt& a) {
    return Eventually([&] {
      a.Tick();
      return a.ended();
    });
  }
  bool NothingRuns() const {
    return sae::FindProcesses({.marks = {"SAELOOM_RUNS_ID=" + runs_->runs_id()}}).empty();
  }
  std::unique_ptr<Attempt> Adopt(const AttemptKey& key) {
    Attempt::AdoptedGangs gangs;
    return Attempt::Adopt(context_, key, gangs);
  }
  static bool HasEvents(Attempt& a) {
    return Eventually([&] { return EventLog(a.events_path()).Last().has_value(); });
  }

  World world_;
  std::unique_ptr<RunsFolder> runs_ = world_.OpenRuns();
  Attempt::Context context_;
};

TEST_F(AttemptTest, FinishesAndLeavesItsRecord) {
  auto a = Start("finish:2");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->slots(), 1);
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "finished");
  EXPECT_EQ(a->ending().exit_code, 0);
  EXPECT_EQ(a->slots(), 0) << "its slots are free";
  EXPECT_EQ(EventLog(a->events_path()).Last()->seq, 4);
  EXPECT_EQ(runs_->OpenAttempts()->size(), 1U) << "open until its report is acknowledged";
  const auto record = ReadRecord(sae::RealEnv(), a->directory());
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(record->ended);
  EXPECT_GT(record->pid, 0);
  EXPECT_GT(record->start_ticks, 0);
  EXPECT_EQ(record->boot_id, context_.boot_id);
  EXPECT_EQ(record->worker_id, runs_->worker_id());
  const auto config =
      sae::config::ParseRunConfig(*sae::RealEnv().Read(a->directory() + "/run.json"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->run.checkpoints, runs_->directory() + "/demo/0000/checkpoints");
  EXPECT_TRUE(config->run.lease);
  EXPECT_EQ(config->run.store_hash, world_.store_hash());
  EXPECT_EQ(config->trial.sae.k, 4);
  EXPECT_EQ(config->run.device, "cpu");
  EXPECT_THAT(record->gpus, IsEmpty());
  EXPECT_TRUE(sae::RealEnv().List(world_.folder() / "shm")->empty()) << "scratch is gone";
}

TEST_F(AttemptTest, CrashHasExitCodeAndLog) {
  auto a = Start(
      "launcher:mpirun noticed that process rank 0 with PID 1 on node x exited on signal 9 "
      "(Killed).");
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "");
  EXPECT_EQ(a->ending().exit_code, 137);
  EXPECT_THAT(a->ending().reason, HasSubstr("rank 0"));
  ASSERT_EQ(a->log_tail().size(), 2U);
  EXPECT_THAT(a->log_tail()[0], HasSubstr("mode launcher")) << "of rank-0.log";
  EXPECT_THAT(a->log_tail()[1], HasSubstr("mpirun noticed"));
}

TEST_F(AttemptTest, NoticeLetsItYield) {
  auto a = Start("run");
  ASSERT_TRUE(HasEvents(*a));
  a->Notice(StopCause::kCoordinator, "preempted", kFar);
  a->Notice(StopCause::kCoordinator, "again", kFar);
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "yielded");
  EXPECT_EQ(a->ending().exit_code, 75);
  EXPECT_EQ(a->ending().failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
}

TEST_F(AttemptTest, DeafGangIsKilledAfterItsGrace) {
  auto a = Start("stubborn");
  ASSERT_TRUE(HasEvents(*a));
  a->Notice(StopCause::kLease, "no answer", sae::RealClock().SinceBoot() + absl::Milliseconds(50));
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "");
  EXPECT_EQ(a->ending().failure_class, v1::NODE_LOST);
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptTest, NoticeBeforeTheFirstEventKills) {
  auto a = Start("silent");
  a->Notice(StopCause::kShutdown, "the worker stops", kFar);
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().exit_code, 137);
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptTest, StrayProcessesEndWithTheAttempt) {
  auto a = Start("stray");
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "finished");
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptTest, GangObeysThePassedLease) {
  auto a = Start("run", 1, sae::RealClock().SinceBoot() - absl::Seconds(1));
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(a->ending().verdict, "yielded");
  EXPECT_THAT(a->ending().reason, HasSubstr("lease"));
}

TEST_F(AttemptTest, ALivingGangIsTakenBackAndGoesOn) {
  auto a = Start("run");
  ASSERT_TRUE(HasEvents(*a));
  // The owner dies as by SIGKILL: the object is lost without its destructor.
  Attempt* lost = a.release();
  auto adopted = Adopt(lost->key());
  EXPECT_FALSE(adopted->leaving());
  EXPECT_EQ(adopted->slots(), 1);
  const std::int64_t seq = EventLog(adopted->events_path()).Last()->seq;
  ASSERT_TRUE(Eventually([&] {
    adopted->Tick();
    return EventLog(adopted->events_path()).Last()->seq > seq + 3;
  }));
  EXPECT_FALSE(adopted->ended());
  adopted->Notice(StopCause::kCoordinator, "asked", kFar);
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_EQ(adopted->ending().verdict, "yielded") << "the notice reached it";
  EXPECT_EQ(adopted->ending().exit_code, -1);
  EXPECT_EQ(adopted->ending().failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
  EXPECT_TRUE(NothingRuns());
  EXPECT_TRUE(Adopt(lost->key())->ended()) << "known from its record";
  delete lost;  // only to please the leak checker
}

TEST_F(AttemptTest, AGangTakenBackObeysTheLeaseItHas) {
  auto a = Start("run");
  ASSERT_TRUE(HasEvents(*a));
  Attempt* lost = a.release();
  auto adopted = Adopt(lost->key());
  adopted->RenewLease(absl::Nanoseconds(1), kFar);
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_EQ(adopted->ending().verdict, "yielded");
  EXPECT_THAT(adopted->ending().reason, HasSubstr("lease"));
  delete lost;
}

TEST_F(AttemptTest, WhatIsNotTheGangAnyMoreIsEnded) {
  auto a = Start("stubborn");
  ASSERT_TRUE(HasEvents(*a));
  Attempt* lost = a.release();
  // Its number is another process's now.
  auto record = ReadRecord(*context_.env, lost->directory());
  ASSERT_TRUE(record.ok());
  ++record->start_ticks;
  ASSERT_TRUE(WriteRecord(*context_.env, lost->directory(), *record).ok());
  auto adopted = Adopt(lost->key());
  EXPECT_TRUE(adopted->leaving());
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_TRUE(NothingRuns());
  EXPECT_EQ(adopted->ending().verdict, "");
  EXPECT_EQ(adopted->ending().exit_code, -1);
  EXPECT_EQ(adopted->ending().failure_class, v1::NODE_LOST);
  auto again = Adopt(lost->key());
  EXPECT_TRUE(again->ended()) << "known from its record";
  EXPECT_EQ(again->ending().reason, adopted->ending().reason);
  delete lost;
}

TEST_F(AttemptTest, AnotherBootHasEndedWhatWasThere) {
  auto a = Start("stubborn");
  ASSERT_TRUE(HasEvents(*a));
  Attempt* lost = a.release();
  context_.boot_id = "another";
  auto adopted = Adopt(lost->key());
  EXPECT_TRUE(adopted->leaving());
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_EQ(adopted->ending().failure_class, v1::NODE_LOST);
  EXPECT_THAT(adopted->ending().reason, HasSubstr("its machine was restarted"));
  delete lost;
}

TEST_F(AttemptTest, GpusOfAnAdoptedGangStayTakenUntilItIsGone) {
  context_.gpus = {"0", "1"};
  auto a = Start("stubborn");
  ASSERT_TRUE(HasEvents(*a));
  EXPECT_THAT(a->gpus(), ElementsAre("0"));
  Attempt* lost = a.release();
  context_.gpus = {"3"};  // the new incarnation was started with others
  auto adopted = Adopt(lost->key());
  EXPECT_THAT(adopted->gpus(), ElementsAre("0")) << "known from its record";
  adopted->Kill(StopCause::kCoordinator, "enough");
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_THAT(adopted->gpus(), IsEmpty());
  EXPECT_TRUE(NothingRuns());
  EXPECT_THAT(Adopt(lost->key())->gpus(), IsEmpty()) << "it has ended";
  delete lost;
}

TEST_F(AttemptTest, WithoutANewStepItIsAskedAndThenKilled) {
  context_.stop_grace = absl::Milliseconds(50);
  context_.gang = world_.Gang("stubborn");
  auto start = world_.Start("0000", 1);
  start.set_progress_timeout_seconds(0.3);
  auto stuck = Attempt::Start(context_, start, kFar);
  ASSERT_TRUE(stuck.ok()) << stuck.status();
  ASSERT_TRUE(RunToEnd(**stuck));
  EXPECT_EQ((*stuck)->ending().failure_class, v1::NO_PROGRESS);
  EXPECT_THAT((*stuck)->ending().reason, HasSubstr("no new step for 0.3 s"));
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptTest, WithoutEnoughFreeGpusItIsRefusedAndLeavesNothing) {
  context_.gang = world_.Gang("finish:1");
  context_.gpus = {"0", "1"};
  auto start = world_.Start("0000", 1);
  start.mutable_config()->set_ranks(2);
  const absl::Status status = Attempt::Start(context_, start, kFar, {"1"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(sae::Message(status), HasSubstr("needs 2 GPUs, 1 of 2 are free"));
  EXPECT_TRUE(runs_->OpenAttempts()->empty());
  EXPECT_TRUE(NothingRuns());
}

TEST_F(AttemptTest, AdoptedAttemptThatHadFinishedIsFinished) {
  auto a = Start("finish:1");
  ASSERT_TRUE(Eventually([&] {
    const auto last = EventLog(a->events_path()).Last();
    return last && last->kind == sae::config::EventKind::kFinished;
  }));
  auto adopted = Adopt(a->key());
  ASSERT_TRUE(RunToEnd(*adopted));
  EXPECT_EQ(adopted->ending().verdict, "finished");
}

TEST_F(AttemptTest, ANewAttemptEndsWhatIsLeftOfOlderOnes) {
  auto first = Start("stubborn");
  ASSERT_TRUE(HasEvents(*first));
  auto second = Start("finish:1", 2);
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(sae::FindProcesses(
                  {.marks = {"SAELOOM_ATTEMPT=demo/0000/1", "SAELOOM_RUNS_ID=" + runs_->runs_id()}})
                  .empty());
  ASSERT_TRUE(RunToEnd(*second));
  EXPECT_EQ(second->ending().verdict, "finished");
}

TEST_F(AttemptTest, RefusalsNameValueAndRemedy) {
  context_.gang = world_.Gang("finish:1");
  const auto refused = [&](const v1::StartAttempt& s) {
    return Attempt::Start(context_, s, kFar).status();
  };
  auto start = world_.Start("0000", 1);
  start.set_store_hash("xxh3:0123456789abcdef");
  EXPECT_EQ(refused(start).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(sae::Message(refused(start)), HasSubstr("xxh3:0123456789abcdef"));
  start = world_.Start("0000", 1);
  start.set_store("/no/such/store");
  EXPECT_EQ(refused(start).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(sae::Message(refused(start)), HasSubstr("/no/such/store"));
  start = world_.Start("../up", 1);
  EXPECT_EQ(refused(start).code(), absl::StatusCode::kInvalidArgument);
  start = world_.Start("0000", 1);
  start.mutable_config()->mutable_sae()->set_k(33);
  EXPECT_EQ(refused(start).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(runs_->OpenAttempts()->empty());
  auto a = Start("finish:1");
  ASSERT_TRUE(RunToEnd(*a));
  EXPECT_EQ(refused(world_.Start("0000", 1)).code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace saeloom::agent
