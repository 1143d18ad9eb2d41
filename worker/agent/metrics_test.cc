#include "worker/agent/metrics.h"

#include <cstdlib>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "sae/base/process.h"
#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;
using testing::Not;

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

TEST(Metrics, AGpuIsItsTrialsUntilItIsGivenToAnother) {
  Metrics m("1.2.3");
  const std::string first = R"(allocation_info{gpu="GPU-1",sweep="s",trial="0000"} 1)",
                    second = R"(allocation_info{gpu="GPU-1",sweep="s",trial="0001"} 1)";
  m.SetGpus({{"GPU-1", "s", "0000"}, {"GPU-2", "s", "0000"}});
  m.SetGpus({{"GPU-1", "s", "0000"}, {"GPU-2", "s", "0000"}});
  EXPECT_THAT(m.Page(), HasSubstr(first));
  m.SetGpus({{"GPU-1", "s", "0001"}});
  EXPECT_THAT(m.Page(), Not(HasSubstr(first)));
  EXPECT_THAT(m.Page(), Not(HasSubstr("GPU-2")));
  EXPECT_THAT(m.Page(), HasSubstr(second));
  m.SetGpus({});
  EXPECT_THAT(m.Page(), Not(HasSubstr("GPU-1")));
}

TEST(Metrics, PassesPromtool) {
  const auto promtool = sae::FindInPath("", "", "promtool", std::getenv("PATH"));
  if (!promtool.ok()) GTEST_SKIP() << "promtool is not installed";
  TemporaryFolder folder;
  Metrics m("1.2.3");
  m.SetGpus({{"0", "s", "0000"}});
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), folder / "page", m.Page()).ok());
  const auto run =
      sae::RunProcess({.argv = {"/bin/sh", "-c", "'" + *promtool + "' check metrics < page 2>&1"},
                       .directory = folder.path()},
                      absl::Seconds(30));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->exit.ShellCode(), 0) << run->output;
  EXPECT_EQ(run->output, "");
}

// To write the file anew: SAELOOM_WRITE_DOCS=1 agent_test
TEST(Metrics, TheDocumentSaysTheSame) {
  Metrics m("1.2.3");
  m.SetGpus({{"0", "s", "0000"}});
  std::string table = "| name | type | meaning |\n|---|---|---|\n";
  std::istringstream page(m.Page());
  std::string hash, what, name, rest, help;
  for (std::string line; std::getline(page, line);) {
    std::istringstream words(line);
    if (!(words >> hash >> what >> name) || hash != "#" || !std::getline(words >> std::ws, rest))
      continue;
    if (what == "HELP") help = rest;
    if (what == "TYPE") table += "| `" + name + "` | " + rest + " | " + help + " |\n";
  }
  const std::string path = SAE_SOURCE_DIR "/docs/metrics.md";
  std::string text = sae::RealEnv().Read(path).value_or("");
  const std::string begin = "<!-- worker: begin -->\n";
  const std::size_t from = text.find(begin), to = text.find("<!-- worker: end -->");
  ASSERT_NE(from, std::string::npos) << path;
  ASSERT_NE(to, std::string::npos) << path;
  const std::size_t start = from + begin.size();
  if (std::getenv("SAELOOM_WRITE_DOCS") != nullptr) {
    text.replace(start, to - start, table);
    ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), path, text).ok());
  } else {
    EXPECT_EQ(text.substr(start, to - start), table) << "run SAELOOM_WRITE_DOCS=1 agent_test";
  }
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
