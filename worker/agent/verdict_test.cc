#include "worker/agent/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace saeloom::agent {
namespace {

using sae::config::EventKind;
using testing::HasSubstr;

sae::config::Event Event(EventKind kind, const std::string& message = "") {
  sae::config::Event e;
  e.seq = 1;
  e.kind = kind;
  e.message = message;
  return e;
}

TEST(Conclude, LastEventStandsOverExitCode) {
  const Ending e =
      Conclude({.last_event = Event(EventKind::kFinished), .exit = sae::ExitStatus{1, 0}});
  EXPECT_EQ(e.verdict, "finished");
  EXPECT_EQ(e.exit_code, 1);
  EXPECT_EQ(e.failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
}

TEST(Conclude, ExitCodesWhereThereIsNoVerdict) {
  const auto of = [](int code, int signal = 0, bool oom = false) {
    return Conclude({.last_event = Event(EventKind::kMetrics),
                     .exit = sae::ExitStatus{code, signal},
                     .out_of_memory = oom});
  };
  EXPECT_EQ(of(0).failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
  EXPECT_EQ(of(75).failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
  EXPECT_EQ(of(70).failure_class, v1::HANG);
  EXPECT_EQ(of(78).failure_class, v1::INVALID_CONFIG);
  EXPECT_EQ(of(93).failure_class, v1::USER_ERROR);
  EXPECT_EQ(of(137).failure_class, v1::INTERNAL);
  EXPECT_EQ(of(137, 0, true).failure_class, v1::OOM_HOST);
  EXPECT_EQ(of(0, 9).exit_code, 137);
  EXPECT_EQ(of(205).failure_class, v1::NODE_LOST) << "it had begun";
  EXPECT_EQ(Conclude({.exit = sae::ExitStatus{205, 0}}).failure_class, v1::RENDEZVOUS_TIMEOUT);
  EXPECT_EQ(Conclude({.exit = sae::ExitStatus{205, 0},
                      .launcher_output = "x\nsaeloom-rsh: host b (b:7) cannot be reached: refused\n"
                                         "ORTE has lost communication with a remote daemon.\n"})
                .reason,
            "mpirun could not start or reach its daemon (exit code 205): host b (b:7) cannot be "
            "reached: refused");
  EXPECT_EQ(Conclude({.exit = sae::ExitStatus{243, 0}}).failure_class, v1::RENDEZVOUS_TIMEOUT);
  EXPECT_EQ(of(3).failure_class, v1::INTERNAL);
  EXPECT_THAT(of(139).reason, HasSubstr("signal 11"));
  EXPECT_EQ(of(3).verdict, "");
}

TEST(Conclude, MessagesOfFailedAreClassed) {
  const auto of = [](const std::string& m) {
    return Conclude({.last_event = Event(EventKind::kFailed, m)}).failure_class;
  };
  EXPECT_EQ(of("INVALID_ARGUMENT: k is 9"), v1::INVALID_CONFIG);
  EXPECT_EQ(of("DATA_LOSS: checkpoint step-1: hash differs"), v1::CHECKPOINT_UNREADABLE);
  EXPECT_EQ(of("watchdog: no progress for 300 s at step 4"), v1::HANG);
  EXPECT_EQ(of("FAILED_PRECONDITION: loss is nan at step 4"), v1::USER_ERROR);
  EXPECT_EQ(of("something else"), v1::INTERNAL);
}

TEST(Conclude, ExitCodeOfTheTrainerStandsOverMpiruns) {
  auto event = Event(EventKind::kFailed, "FAILED_PRECONDITION: diverged");
  event.values["exit_code"] = 93;
  EXPECT_EQ(Conclude({.last_event = event, .exit = sae::ExitStatus{1, 0}}).exit_code, 93);
}

TEST(Conclude, OwnStopsAreNotTheTrialsFault) {
  const auto of = [](StopCause cause) {
    return Conclude(
        {.exit = sae::ExitStatus{0, 9}, .stop_cause = cause, .stop_reason = "why", .killed = true});
  };
  EXPECT_EQ(of(StopCause::kLease).failure_class, v1::NODE_LOST);
  EXPECT_EQ(of(StopCause::kWorkerRestart).failure_class, v1::NODE_LOST);
  EXPECT_EQ(of(StopCause::kShutdown).failure_class, v1::NODE_LOST);
  EXPECT_EQ(of(StopCause::kCoordinator).failure_class, v1::FAILURE_CLASS_UNSPECIFIED);
  EXPECT_EQ(of(StopCause::kLease).reason, "why");
  EXPECT_EQ(of(StopCause::kNoProgress).failure_class, v1::NO_PROGRESS);
  EXPECT_EQ(of(StopCause::kRendezvous).failure_class, v1::RENDEZVOUS_TIMEOUT);
  EXPECT_EQ(Conclude({}).failure_class, v1::NODE_LOST);
  EXPECT_EQ(Conclude({}).exit_code, -1);
}

TEST(Conclude, ATrialThatSavesWithoutGettingOnIsStillOneWithoutProgress) {
  const Ending e = Conclude({.last_event = Event(EventKind::kYielded, "asked to"),
                             .exit = sae::ExitStatus{75, 0},
                             .stop_cause = StopCause::kNoProgress,
                             .stop_reason = "no new step for 9 s"});
  EXPECT_EQ(e.verdict, "yielded");
  EXPECT_EQ(e.failure_class, v1::NO_PROGRESS);
  EXPECT_EQ(e.reason, "no new step for 9 s");
}

TEST(Conclude, WhatRanksLoggedExplainsACrash) {
  const auto of = [](const std::string& logs) {
    return Conclude({.last_event = Event(EventKind::kMetrics),
                     .exit = sae::ExitStatus{134, 0},
                     .rank_logs = logs})
        .failure_class;
  };
  EXPECT_EQ(of("step 3\nNVRM: Xid (PCI:0000:01:00): 79\n"), v1::GPU_FAULT);
  EXPECT_EQ(of("CUDA error: out of memory\n"), v1::OOM_GPU);
  EXPECT_EQ(of("step 3\n"), v1::INTERNAL);
  EXPECT_EQ(Conclude({.last_event = Event(EventKind::kFailed, "INTERNAL: AllReduce failed"),
                      .rank_logs = "uncorrectable ECC error encountered"})
                .failure_class,
            v1::GPU_FAULT);
  EXPECT_EQ(Conclude({.last_event = Event(EventKind::kFailed, "INVALID_ARGUMENT: k"),
                      .rank_logs = "NVRM: Xid 79"})
                .failure_class,
            v1::INVALID_CONFIG)
      << "the message says what it was";
}

TEST(Conclude, AGangTakenBackHasNoExitCodeButMpirunsWords) {
  const auto of = [](const std::string& words, StopCause cause = StopCause::kNone) {
    return Conclude({.last_event = Event(EventKind::kMetrics),
                     .stop_cause = cause,
                     .stop_reason = "why",
                     .adopted = cause == StopCause::kNone,
                     .launcher_output = words});
  };
  EXPECT_EQ(of("process rank 1 with PID 0 on node a exited on signal 9 (Killed)").exit_code, 137);
  EXPECT_EQ(of("process rank 1 with PID 0 on node a exited on signal 9 (Killed)").failure_class,
            v1::INTERNAL);
  EXPECT_EQ(of("  Exit code:    70").failure_class, v1::HANG);
  EXPECT_EQ(of("  Exit code:    70", StopCause::kWorkerRestart).failure_class, v1::HANG);
  EXPECT_EQ(of("").failure_class, v1::INTERNAL);
  EXPECT_EQ(of("").exit_code, -1);
  EXPECT_EQ(of("", StopCause::kWorkerRestart).failure_class, v1::NODE_LOST);
  EXPECT_EQ(of("ORTE has lost communication with a remote daemon").failure_class, v1::NODE_LOST);
}

TEST(FailedRank, FromWhatMpirunSays) {
  EXPECT_EQ(
      FailedRank(
          "mpirun noticed that process rank 1 with PID 0 on node a exited on signal 9 (Killed)."),
      1);
  EXPECT_EQ(FailedRank("MPI_ABORT was invoked on rank 2 in communicator MPI_COMM_WORLD"), 2);
  EXPECT_EQ(FailedRank("  Process name: [[51234,1],3]\n  Exit code:    3\n"), 3);
  EXPECT_EQ(FailedRank("MPI_ABORT was invoked on rank 2\n... process rank 0 with PID 3"), 2)
      << "the first";
  EXPECT_EQ(FailedRank("nothing"), std::nullopt);
}

}  // namespace
}  // namespace saeloom::agent
