#include "worker/agent/metrics.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "sae/base/process.h"
#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;

TEST(Metrics, PageHasWhatWasCounted) {
  Metrics m("1.2.3");
  m.SetSlots(4, 3);
  m.AttemptStarted(2, false);
  m.AttemptStarted(2, true);
  m.AttemptEnded("");
  m.Reported(10);
  m.Reported(15);
  m.Registered(3);
  m.Fenced();
  const std::string page = m.Page();
  for (const char* line :
       {"saeloom_worker_slots{state=\"free\"} 1", "saeloom_worker_slots{state=\"used\"} 3",
        "saeloom_worker_attempts_started_total 2", "saeloom_worker_rank_restarts_total 2",
        "saeloom_worker_attempts_ended_total{verdict=\"none\"} 1",
        "saeloom_worker_events_reported_total 15", "saeloom_worker_reconnects_total 2",
        "saeloom_worker_fences_total 1", "version=\"1.2.3\""}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(Metrics, PassesPromtool) {
  const auto promtool = sae::FindInPath("", "", "promtool", std::getenv("PATH"));
  if (!promtool.ok()) GTEST_SKIP() << "promtool is not installed";
  TemporaryFolder folder;
  ASSERT_TRUE(
      sae::WriteFileAtomically(sae::RealEnv(), folder / "page", Metrics("1.2.3").Page()).ok());
  const auto run =
      sae::RunProcess({.argv = {"/bin/sh", "-c", "'" + *promtool + "' check metrics < page 2>&1"},
                       .directory = folder.path()},
                      absl::Seconds(30));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->exit.ShellCode(), 0) << run->output;
  EXPECT_EQ(run->output, "");
}

TEST(Metrics, PortInUseIsOneClearError) {
  Metrics first("1"), second("1");
  const auto address = first.Expose("127.0.0.1:0");
  ASSERT_TRUE(address.ok()) << address.status();
  const auto taken = second.Expose(*address);
  EXPECT_EQ(taken.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(sae::Message(taken.status()), HasSubstr(*address));
  EXPECT_EQ(second.Expose("nonsense").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace saeloom::agent
