#include "server/metrics/metrics.h"

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <prometheus/text_serializer.h>

#include "server/metrics/live_trials.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;
using ::testing::Not;

class MetricsTest : public CoreTest {
 protected:
  MetricsTest() : metrics_(registry_, "1.2.3") { core_->AddObserver(&metrics_); }
  std::string Text() {
    WatchHub::Stats watch;
    watch.streams = 2;
    watch.sent = 7;
    clock_.Advance(absl::Seconds(1));
    metrics_.Update(*core_, *store_, watch, clock_.SinceBoot());
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }
  /// One trial succeeds, one fails for good, one waits.
  void SomeLife() {
    Create(MakeSpec("s", 3));
    Register(Registration("w", 1));
    ASSERT_TRUE(Report("w", {"s", "0000", 1}, 1,
                       {Line(1, EventKind::kStarted), Line(2, EventKind::kFinished)})
                    .ok());
    ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
    ASSERT_TRUE(Beat("w", {Ended("0001", 1, 78, "failed")}).ok());
    core_->Heartbeat({{"w", "1", 99}, 1, 1, {}}).IgnoreError();
    metrics_.OnStarted("saeloom.v1.SweepService", "GetSweep");
    metrics_.OnHandled("saeloom.v1.SweepService", "GetSweep", absl::StatusCode::kNotFound,
                       absl::Milliseconds(3));
    metrics_.OnAudited("CancelSweep", absl::StatusCode::kPermissionDenied);
  }
  prometheus::Registry registry_;
  Metrics metrics_;
};

TEST_F(MetricsTest, ValuesFollowTheCore) {
  SomeLife();
  const std::string text = Text();
  for (const char* line :
       {"saeloom_trials_total{failure_class=\"\",outcome=\"succeeded\"} 1",
        "saeloom_trials_total{failure_class=\"invalid_config\",outcome=\"failed\"} 1",
        "saeloom_trials{state=\"allocated\"} 1", "saeloom_trial_attempts_total{reason=\"first\"} 3",
        "saeloom_sweeps{state=\"running\"} 1", "saeloom_workers{state=\"ready\"} 1",
        "saeloom_workers{state=\"cordoned\"} 0", "saeloom_outbox_depth 1",
        "saeloom_queue_used_slots{queue=\"default\"} 1",
        "saeloom_trial_pending_seconds_count{queue=\"default\"} 3",
        "saeloom_pending_trials{queue=\"default\",reason=\"slots_busy\"} 0",
        "saeloom_slots{state=\"free\"} 0", "saeloom_slots{state=\"allocated\"} 1",
        "saeloom_fenced_messages_total{kind=\"epoch\"} 1",
        "saeloom_gang_start_duration_seconds_count 1", "saeloom_leader_epoch 1",
        "saeloom_audit_events_total{action=\"CancelSweep\",result=\"PERMISSION_DENIED\"} 1",
        "saeloom_watch_streams 2", "saeloom_watch_sent_events_total 7", "version=\"1.2.3\"} 1",
        "grpc_server_handled_total{grpc_code=\"NOT_FOUND\",grpc_method=\"GetSweep\","
        "grpc_service=\"saeloom.v1.SweepService\"} 1",
        "saeloom_searcher_decisions_total{algorithm=\"grid\",decision=\"draw\"} 3"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(MetricsTest, DecisionsOfSearchesAreCounted) {
  static_cast<CoreObserver&>(metrics_).OnSearchDecided("asha", "stop");
  static_cast<CoreObserver&>(metrics_).OnSearchDecided("asha", "stop");
  EXPECT_THAT(
      Text(),
      HasSubstr("saeloom_searcher_decisions_total{algorithm=\"asha\",decision=\"stop\"} 2"));
}

TEST_F(MetricsTest, CheckpointsAreObservedOnceEach) {
  Create(MakeSpec("s", 1));
  Register(Registration("w", 1));
  auto saved = config::ParseEvent(Line(2, EventKind::kCheckpoint, 5)).value();
  saved.values = {{"ms.save", 7000}, {"bytes.save", 2e8}};
  auto failed = config::ParseEvent(Line(3, EventKind::kWarning, 6)).value();
  failed.failed = "write";
  const std::vector<std::string> lines = {Line(1, EventKind::kStarted), config::ToJsonLine(saved),
                                          config::ToJsonLine(failed)};
  for (int again = 0; again < 2; ++again) {
    ASSERT_EQ(Report("w", {"s", "0000", 1}, 1, lines).value(), 3);
    const std::string text = Text();
    for (const char* line : {"saeloom_checkpoint_write_seconds_count 1",
                             "saeloom_checkpoint_write_seconds_sum 7",
                             "saeloom_checkpoint_write_seconds_bucket{le=\"5\"} 0",
                             "saeloom_checkpoint_write_seconds_bucket{le=\"10\"} 1",
                             "saeloom_checkpoint_write_bytes_sum 2",
                             "saeloom_checkpoint_write_bytes_bucket{le=\"300000000\"} 1",
                             "saeloom_checkpoint_failures_total{op=\"write\"} 1",
                             "saeloom_checkpoint_failures_total{op=\"read\"} 0"})
      EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(MetricsTest, ALeaderIsOneUntilAnotherTookOver) {
  Create(MakeSpec("s", 1));
  EXPECT_THAT(Text(), HasSubstr("saeloom_leader 1"));
  ++disk_->epoch;
  EXPECT_TRUE(absl::IsAborted(core_->CancelSweep("s")));
  EXPECT_THAT(Text(), HasSubstr("saeloom_leader 0"));
}

TEST_F(MetricsTest, EveryFamilyHasHelpAndNoneATrial) {
  SomeLife();
  const std::string text = Text();
  for (const MetricSpec& spec : MetricTable()) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("# HELP ", spec.name, " ", spec.help))) << spec.name;
    EXPECT_THAT(text, HasSubstr(absl::StrCat("# TYPE ", spec.name, " ", spec.type))) << spec.name;
  }
  EXPECT_THAT(text, Not(HasSubstr("\"0000\"")));
  EXPECT_THAT(text, Not(HasSubstr("trial=")));
}

TEST_F(MetricsTest, PromtoolFindsNothingToSay) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed (Debian package prometheus)";
  }
  SomeLife();
  const std::string path = ::testing::TempDir() + "/coordinator_metrics.txt";
  std::ofstream(path) << Text();
  EXPECT_EQ(std::system(
                absl::StrCat("promtool check metrics < ", path, " > ", path, ".out 2>&1").c_str()),
            0);
  std::stringstream said;
  said << std::ifstream(path + ".out").rdbuf();
  EXPECT_EQ(said.str(), "");
}

TEST(MetricTable, IsInTheOrderOfItsEnumAndNamesAreUnique) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < MetricTable().size(); ++i) {
    EXPECT_EQ(static_cast<std::size_t>(MetricTable()[i].metric), i);
    EXPECT_TRUE(names.insert(MetricTable()[i].name).second) << MetricTable()[i].name;
  }
}

// To write the file anew: SAELOOM_WRITE_DOCS=1 coordinator_metrics_test
TEST(MetricTable, TheDocumentSaysTheSame) {
  const std::string path = SAE_SOURCE_DIR "/docs/metrics.md";
  std::stringstream in;
  in << std::ifstream(path).rdbuf();
  std::string text = in.str();
  const std::pair<std::string, std::string> sections[] = {{"coordinator", MetricsMarkdown()},
                                                         {"live trials", LiveTrialMarkdown()}};
  for (const auto& [name, table] : sections) {
    const std::string begin = "<!-- " + name + ": begin -->\n", end = "<!-- " + name + ": end -->";
    const std::size_t from = text.find(begin), to = text.find(end);
    ASSERT_NE(from, std::string::npos) << path << ": " << name;
    ASSERT_NE(to, std::string::npos) << path << ": " << name;
    const std::size_t start = from + begin.size();
    if (std::getenv("SAELOOM_WRITE_DOCS") != nullptr) text.replace(start, to - start, table);
    EXPECT_EQ(text.substr(start, text.find(end) - start), table)
        << "run SAELOOM_WRITE_DOCS=1 coordinator_metrics_test";
  }
  if (std::getenv("SAELOOM_WRITE_DOCS") != nullptr) std::ofstream(path) << text;
}

}  // namespace
}  // namespace sae::server::testing
