// Nouns about sweeps and trials: every form of output, filters, paging, what is sent, --wait,
// --watch.

#include <nlohmann/json.hpp>

#include "client/cli/testing/cli_fixture.h"
#include "sae/config/yaml.h"

namespace sae::cli {
namespace {
using nlohmann::json;
using saeloom::v1::Sweep;
using saeloom::v1::Trial;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class NounTest : public testing::CliFixture {
 protected:
  NounTest() {
    auto& other = service_.others.emplace_back();
    other.set_name(SweepName("other"));
    other.set_state(Sweep::STATE_SUCCEEDED);
    other.mutable_spec()->set_queue("research");
    other.mutable_spec()->set_priority(50);
    (*other.mutable_spec()->mutable_labels())["model"] = "gpt2";
    other.mutable_spec()->mutable_search()->mutable_asha();
    other.set_owner("ann");
  }
};

TEST_F(NounTest, SweepListHasEveryForm) {
  ASSERT_EQ(Run({"sweep", "list"}), 0) << err();
  EXPECT_EQ(out(),
            "SWEEP  STATE      TRIALS    AGE  TOOK\n"
            "demo   RUNNING    0/0 done    -     -\n"
            "other  SUCCEEDED  0/0 done    -     -\n");
  ASSERT_EQ(Run({"sweep", "list", "-o", "wide"}), 0);
  EXPECT_EQ(
      out(),
      "SWEEP  STATE      TRIALS    AGE  TOOK  OWNER  QUEUE     PRIORITY  SEARCH  BEST  LABELS\n"
      "demo   RUNNING    0/0 done    -     -  -      default          0  grid    -     -\n"
      "other  SUCCEEDED  0/0 done    -     -  ann    research        50  asha    -     "
      "model=gpt2\n");
  ASSERT_EQ(Run({"sweep", "list", "-o", "name"}), 0);
  EXPECT_EQ(out(), "demo\nother\n");
  ASSERT_EQ(Run({"sweep", "list", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())[1]["spec"]["labels"]["model"], "gpt2");
  ASSERT_EQ(Run({"sweep", "list", "-o", "yaml"}), 0);
  EXPECT_EQ(json::parse(config::YamlToJson(out(), "out").value())[1]["owner"], "ann");
  ASSERT_EQ(Run({"sweep", "list", "-o", "jsonl"}), 0);
  std::istringstream lines(out());
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    EXPECT_TRUE(json::parse(line).is_object());
    ++count;
  }
  EXPECT_EQ(count, 2);
  EXPECT_EQ(err(), "");
}

TEST_F(NounTest, FilterOrderAndLimitAreSent) {
  ASSERT_EQ(Run({"sweep", "list", "--filter", "state=RUNNING", "--order-by", "name", "-o", "name"}),
            0);
  EXPECT_THAT(service_.Asked("ListSweeps"), HasSubstr("filter: \"state=RUNNING\""));
  EXPECT_THAT(service_.Asked("ListSweeps"), HasSubstr("order_by: \"name\""));
  ASSERT_EQ(Run({"--limit", "1", "list", "-o", "name"}), 0);
  EXPECT_EQ(out(), "demo\n");
  EXPECT_THAT(service_.Asked("ListSweeps"), HasSubstr("page_size: 1"));
  ASSERT_EQ(Run({"trial", "list", "demo", "--filter", "parameters.sae.k=8", "--order-by",
                 "objective", "-o", "name"}),
            0);
  EXPECT_EQ(out(), "demo/0000\ndemo/0001\n");
  EXPECT_THAT(service_.Asked("ListTrials"), HasSubstr("order_by: \"objective\""));
  EXPECT_THAT(service_.Asked("ListTrials"), HasSubstr("parameters.sae.k=8"));
  EXPECT_EQ(Run({"sweep", "list", "--limit", "-1"}), 2);
}

TEST_F(NounTest, SweepGetAndDescribe) {
  ASSERT_EQ(Run({"sweep", "get", "demo", "other", "-o", "name"}), 0) << err();
  EXPECT_EQ(out(), "demo\nother\n");
  ASSERT_EQ(Run({"sweep", "get", "demo", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["name"], "projects/default/sweeps/demo");
  ASSERT_EQ(Run({"sweep", "describe", "other"}), 0);
  for (const char* part :
       {"owner     ann", "queue     research", "priority  50", "labels    model=gpt2"})
    EXPECT_THAT(out(), HasSubstr(part));
  EXPECT_EQ(Run({"sweep", "get", "none"}), 3);
  EXPECT_EQ(Run({"sweep", "get", "none", "-o", "json"}), 3);
  EXPECT_EQ(json::parse(err())["error"]["code"], "NOT_FOUND");
  EXPECT_EQ(out(), "");
}

TEST_F(NounTest, ChangesSayWhatTheyDidAndCarryARequestId) {
  ASSERT_EQ(Run({"sweep", "pause", "demo"}), 0) << err();
  EXPECT_EQ(out(), "sweep demo: PAUSED, 0/0 done\n");
  EXPECT_EQ(service_.Asked("PauseSweep"),
            "name: \"projects/default/sweeps/demo\" request_id: \"r1\"");
  ASSERT_EQ(Run({"sweep", "resume", "demo", "--request-id", "mine", "-o", "name"}), 0);
  EXPECT_EQ(out(), "demo\n");
  EXPECT_THAT(service_.Asked("ResumeSweep"), HasSubstr("request_id: \"mine\""));
  ASSERT_EQ(Run({"sweep", "cancel", "demo", "-o", "json"}), 0);
  EXPECT_THAT(service_.Asked("CancelSweep"), HasSubstr("mode: MODE_GRACEFUL"));
  EXPECT_EQ(json::parse(out())["state"], "CANCELLED");
  ASSERT_EQ(Run({"sweep", "cancel", "demo", "--now", "--quiet"}), 0);
  EXPECT_THAT(service_.Asked("CancelSweep"), HasSubstr("mode: MODE_NOW"));
  EXPECT_EQ(out(), "");
  ASSERT_EQ(Run({"cancel", "demo"}), 0);
  EXPECT_THAT(service_.Asked("CancelSweep"), Not(HasSubstr("mode")));
  ASSERT_EQ(Run({"sweep", "delete", "demo", "other", "--request-id", "d"}), 0);
  EXPECT_EQ(out(), "sweep demo: deleted; its files stay\nsweep other: deleted; its files stay\n");
  EXPECT_THAT(service_.Asked("DeleteSweep"), HasSubstr("request_id: \"d-2\""));
}

TEST_F(NounTest, AChangeWithoutAnAnswerIsRepeatedOnceWithTheSameId) {
  service_.failures["PauseSweep"] = 1;
  ASSERT_EQ(Run({"sweep", "pause", "demo"}), 0) << err();
  EXPECT_EQ(service_.Calls("PauseSweep"), 2);
  EXPECT_THAT(service_.Asked("PauseSweep"), HasSubstr("request_id: \"r1\""));
  service_.failures["PauseSweep"] = 2;
  EXPECT_EQ(Run({"sweep", "pause", "demo"}), 6);
  EXPECT_EQ(service_.Calls("PauseSweep"), 4);
  // What changes nothing is not repeated, and no other error is.
  service_.failures["GetSweep"] = 1;
  EXPECT_EQ(Run({"sweep", "get", "demo"}), 6);
  EXPECT_EQ(service_.Calls("GetSweep"), 1);
  service_.failure = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "it has ended");
  service_.failures["PauseSweep"] = 1;
  EXPECT_EQ(Run({"sweep", "pause", "demo"}), 5);
  EXPECT_EQ(err(), "error: it has ended\n");
  EXPECT_EQ(service_.Calls("PauseSweep"), 5);
}

TEST_F(NounTest, WaitEndsWhenTheChangeIsDone) {
  ASSERT_EQ(Run({"sweep", "pause", "demo", "--wait"}), 0) << err();
  ASSERT_EQ(Run({"sweep", "cancel", "demo", "--wait"}), 0) << err();
  service_.sweep.set_state(Sweep::STATE_RUNNING);
  (*service_.sweep.mutable_trials())["RUNNING"] = 1;
  service_.ends_after["GetSweep"] = service_.Calls("GetSweep") + 3;
  EXPECT_EQ(Run({"sweep", "pause", "demo", "--wait"}), 5) << "still running, asked until it failed";
  EXPECT_EQ(service_.Calls("GetSweep"), service_.ends_after["GetSweep"] + 1);
  service_.ends_after.clear();
  (*service_.sweep.mutable_trials())["RUNNING"] = 0;
  (*service_.sweep.mutable_trials())["FAILED"] = 1;
  (*service_.sweep.mutable_trials())["SUCCEEDED"] = 1;
  EXPECT_EQ(Run({"sweep", "resume", "demo", "--wait"}), 10);
  service_.trials[0].set_state(Trial::STATE_RUNNING);
  ASSERT_EQ(Run({"trial", "stop", "demo/0000", "--wait"}), 0) << err();
  EXPECT_EQ(out(), "trial demo/0000: STOPPED_EARLY\n");
}

TEST_F(NounTest, SetSendsOnlyWhatWasGiven) {
  service_.sweep.set_etag("e7");
  (*service_.sweep.mutable_spec()->mutable_labels())["draft"] = "1";
  (*service_.sweep.mutable_spec()->mutable_labels())["keep"] = "k";
  ASSERT_EQ(Run({"sweep", "set", "demo", "--priority", "0", "--queue", "q"}), 0) << err();
  EXPECT_THAT(service_.Asked("UpdateSweep"),
              HasSubstr("update_mask { paths: \"spec.priority\" paths: \"spec.queue\" }"));
  EXPECT_THAT(service_.Asked("UpdateSweep"), Not(HasSubstr("etag")));
  ASSERT_EQ(Run({"sweep", "set", "demo", "--label", "model=gpt2", "--unlabel", "draft"}), 0);
  const std::string asked = service_.Asked("UpdateSweep");
  EXPECT_THAT(asked, HasSubstr("key: \"keep\""));
  EXPECT_THAT(asked, HasSubstr("key: \"model\" value: \"gpt2\""));
  EXPECT_THAT(asked, Not(HasSubstr("draft")));
  EXPECT_THAT(asked, HasSubstr("etag: \"e7\""));
  EXPECT_EQ(Run({"sweep", "set", "demo"}), 2);
  EXPECT_THAT(err(), HasSubstr("nothing to set"));
  EXPECT_EQ(Run({"sweep", "set", "demo", "--unlabel", "none"}), 3);
}

TEST_F(NounTest, ForkAddAndPareto) {
  ASSERT_EQ(Run({"sweep", "fork", "demo/0001", "--name", "longer", "--tokens", "1e6"}), 0) << err();
  EXPECT_THAT(service_.Asked("ForkSweep"),
              HasSubstr("source: \"projects/default/sweeps/demo/trials/0001\" name: \"longer\" "
                        "tokens: 1000000"));
  ASSERT_EQ(Run({"sweep", "fork", "demo/0001/step-1", "-f", "s.yaml", "--name", "tuned"}), 0);
  EXPECT_THAT(service_.Asked("ForkSweep"), HasSubstr("trials/0001/checkpoints/step-1"));
  EXPECT_THAT(service_.Asked("ForkSweep"), HasSubstr("store_d: 16"));
  EXPECT_EQ(Run({"sweep", "fork", "demo/0001"}), 2);
  EXPECT_EQ(Run({"sweep", "fork", "demo", "--name", "x"}), 2);

  service_.added.add_trials("0002");
  service_.added.add_trials("0003");
  service_.added.set_skipped(1);
  ASSERT_EQ(Run({"sweep", "add", "demo", "--values", "sae.k=16,24", "--values", "train.seed=1"}), 0)
      << err();
  EXPECT_EQ(out(), "sweep demo: 2 trials more, 0002 to 0003; 1 were there\n");
  EXPECT_THAT(service_.Asked("AddPoints"),
              HasSubstr("path: \"sae.k\" values { values { number_value: 16 } values { "
                        "number_value: 24 } }"));
  ASSERT_EQ(Run({"sweep", "add", "demo", "--draws", "5", "-o", "name"}), 0);
  EXPECT_EQ(out(), "demo/0002\ndemo/0003\n");
  EXPECT_EQ(Run({"sweep", "add", "demo"}), 2);

  ASSERT_EQ(Run({"sweep", "pareto", "demo", "--metric", "heldout.fvu", "--metric=-heldout.gamma"}),
            0)
      << err();
  EXPECT_THAT(out(), HasSubstr("heldout.fvu  heldout.gamma\n"));
  EXPECT_THAT(out(), HasSubstr("0001   topk k=8    SUCCEEDED       0.2000         0.9980"));
  EXPECT_THAT(service_.Asked("GetPareto"), HasSubstr("metrics: \"-heldout.gamma\""));
}

TEST_F(NounTest, TrialsHaveEveryForm) {
  service_.trials[1].set_stopping("pause");
  ASSERT_EQ(Run({"trial", "list", "demo"}), 0) << err();
  EXPECT_EQ(
      out(),
      "TRIAL  PARAMETERS  STATE                 ATTEMPT   STEP     FVU     L0   DEAD  REASON\n"
      "0000   topk k=4    SUCCEEDED                   1  0/244  0.4000  4.000  0.40%\n"
      "0001   topk k=8    SUCCEEDED (to pause)        1  0/244  0.2000  8.000  0.40%\n");
  ASSERT_EQ(Run({"trial", "get", "demo/0001", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["parameters"]["sae.k"], 8);
  ASSERT_EQ(Run({"trial", "get", "demo/0000", "demo/0001", "-o", "name"}), 0);
  EXPECT_EQ(out(), "demo/0000\ndemo/0001\n");
  ASSERT_EQ(Run({"trial", "describe", "demo/0001"}), 0);
  EXPECT_THAT(out(), HasSubstr("trial       demo/0001"));
  EXPECT_EQ(Run({"trial", "describe", "demo"}), 2);
  ASSERT_EQ(Run({"trial", "pause", "demo/0000", "demo/0001"}), 0);
  EXPECT_EQ(out(), "trial demo/0000: PAUSED\ntrial demo/0001: PAUSED, about to pause\n");
  // One command has one id, and a number for each of its calls.
  EXPECT_THAT(service_.Asked("PauseTrial"),
              MatchesRegex("name: \"projects/default/sweeps/demo/trials/0001\" request_id: "
                           "\"r[0-9]+-2\""));
  for (const char* verb : {"resume", "promote", "stop"})
    EXPECT_EQ(Run({"trial", verb, "demo/0000"}), 0) << verb << err();
  EXPECT_EQ(Run({"trial", "stop", "demo/9999"}), 3);
}

TEST_F(NounTest, MetricsAreATableOfSteps) {
  service_.curve = {0.5, 0.25};
  ASSERT_EQ(Run({"trial", "metrics", "demo/0000", "--metric", "train.loss", "--points", "10",
                 "--sampling", "mean"}),
            0)
      << err();
  EXPECT_EQ(out(),
            "STEP  TOKENS  train.loss\n"
            "  10   1.00k    0.500000\n"
            "  20   2.00k    0.250000\n");
  EXPECT_THAT(service_.Asked("QueryMetrics"), HasSubstr("max_points: 10 sampling: SAMPLING_MEAN"));
  ASSERT_EQ(Run({"trial", "metrics", "demo/0000", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())[0]["values"][1], 0.25);
  EXPECT_EQ(Run({"trial", "metrics", "demo/0000", "--sampling", "none"}), 2);
}

TEST_F(NounTest, WatchPrintsAgainOnlyWhenSomethingChanged) {
  service_.ends_after["ListSweeps"] = 6;  // two pages each time
  EXPECT_EQ(Run({"sweep", "list", "--watch", "-o", "name"}), 5);
  EXPECT_EQ(out(), "demo\nother\n");
  EXPECT_EQ(service_.Calls("ListSweeps"), 7);
}

TEST_F(NounTest, WatchOnATerminalRedrawsInPlaceWithinItsSize) {
  t_.world.terminal = true;
  t_.world.columns = [] { return 12; };
  t_.world.rows = [] { return 3; };
  service_.ends_after["ListSweeps"] = 2;
  EXPECT_EQ(Run({"sweep", "list", "--watch", "--no-color"}), 5);
  EXPECT_EQ(out(), "SWEEP  STAT…\n… the termi…\n");
  t_.world.columns = [] { return 80; };
  t_.world.rows = [] { return 24; };
  service_.ends_after["ListSweeps"] = service_.Calls("ListSweeps") + 2;
  EXPECT_EQ(Run({"sweep", "list", "--watch"}), 5);
  EXPECT_THAT(out(), HasSubstr("other  \x1b[32mSUCCEEDED\x1b[0m  0/0 done"));
}

TEST_F(NounTest, RetryTakesAFilterOrWhatIsMissing) {
  ASSERT_EQ(Run({"sweep", "retry", "demo", "--missing"}), 0) << err();
  EXPECT_TRUE(service_.retried.missing());
  EXPECT_EQ(out(), "nothing to retry: no trial of demo matches\n");
  ASSERT_EQ(Run({"retry", "demo", "--filter", "failure_class=USER_ERROR"}), 0);
  EXPECT_EQ(service_.retried.filter(), "failure_class=USER_ERROR");
  EXPECT_EQ(Run({"retry", "demo", "--missing", "--trial", "0001"}), 2);
}

TEST_F(NounTest, EventsEndAtTheNewestUnlessFollowed) {
  for (int i = 1; i <= 3; ++i) {
    auto& e = service_.events.emplace_back();
    e.set_seq(i);
    e.set_trial("0000");
    e.mutable_time()->set_seconds(1'700'000'000);
    e.mutable_trial_change()->set_state(Trial::STATE_RUNNING);
    e.mutable_trial_change()->set_attempt(i);
    e.mutable_trial_change()->set_worker("w1");
  }
  service_.sweep.set_head_seq(2);
  ASSERT_EQ(Run({"events", "demo", "--kind", "lifecycle", "--trial", "0000"}), 0) << err();
  EXPECT_EQ(out(),
            "2023-11-14T22:13:20Z      1  0000  RUNNING attempt 1 on w1\n"
            "2023-11-14T22:13:20Z      2  0000  RUNNING attempt 2 on w1\n");
  EXPECT_THAT(service_.Asked("WatchSweep"), HasSubstr("trials: \"0000\" kinds: KIND_LIFECYCLE"));
  service_.break_stream_after = 1;
  ASSERT_EQ(Run({"events", "demo", "--follow", "-o", "jsonl"}), 0) << err();
  EXPECT_THAT(err(), HasSubstr("lost: trying again"));
  const std::string text = out();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;
  ASSERT_EQ(Run({"events", "demo", "--after", "2"}), 0);
  EXPECT_EQ(out(), "");
}

}  // namespace
}  // namespace sae::cli
