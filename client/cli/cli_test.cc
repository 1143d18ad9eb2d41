#include "client/cli/cli.h"

#include <nlohmann/json.hpp>

#include "client/cli/testing/cli_fixture.h"
#include "client/cli/verb.h"
#include "proto/convert/error_details.h"

namespace sae::cli {
namespace {
using saeloom::v1::Sweep;
using saeloom::v1::SweepEvent;
using saeloom::v1::Trial;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using testing::kSpec;

class CliTest : public testing::CliFixture {
 protected:
  void Finish(Sweep::State state, int succeeded, int failed) {
    service_.sweep.set_state(state);
    if (succeeded > 0) (*service_.sweep.mutable_trials())["SUCCEEDED"] = succeeded;
    if (failed > 0) (*service_.sweep.mutable_trials())["FAILED"] = failed;
  }
  void AddEvent(const std::string& trial, std::int64_t step) {
    SweepEvent e;
    e.set_seq(static_cast<std::int64_t>(service_.events.size()) + 1);
    e.set_trial(trial);
    e.mutable_point()->set_step(step);
    e.mutable_point()->set_tokens(step * 2048);
    (*e.mutable_point()->mutable_values())["train.loss"] = 1.0 / static_cast<double>(step);
    service_.events.push_back(e);
  }
};

TEST_F(CliTest, SubmitSendsTheWholeSpec) {
  ASSERT_EQ(Run({"submit", "s.yaml", "--request-id", "r1"}), 0) << err();
  EXPECT_EQ(out(), "sweep demo: submitted, 2 trials\nwatch it with: saeloom watch demo\n");
  EXPECT_EQ(service_.created.request_id(), "r1");
  EXPECT_FALSE(service_.created.validate_only());
  EXPECT_EQ(service_.created.spec().store(), t_.directory + "/store");
  EXPECT_EQ(service_.created.spec().store_d(), 16);
  EXPECT_THAT(service_.created.spec().store_hash(), HasSubstr("xxh3:"));
  EXPECT_EQ(service_.created.spec().parameters(0).parameters(0).values().values_size(), 2);
}

TEST_F(CliTest, SubmitTakesDashFNameAndDryRun) {
  ASSERT_EQ(Run({"submit", "-f", "s.yaml", "--name", "other", "--dry-run"}), 0) << err();
  EXPECT_EQ(service_.created.spec().name(), "other");
  EXPECT_TRUE(service_.created.validate_only());
  EXPECT_THAT(out(), HasSubstr("nothing was submitted"));
}

TEST_F(CliTest, SubmitRefusesBadSpecsBeforeItCallsAnybody) {
  t_.Write("s.yaml", std::string(kSpec) + "maxConcurent: 2\n");
  EXPECT_EQ(Run({"submit", "s.yaml"}), 2);
  EXPECT_EQ(err(), "error: s.yaml: unknown key maxConcurent, did you mean maxConcurrent?\n");
  t_.Write("s.yaml",
           "apiVersion: saeloom/v1\nname: demo\nstore: store\ntrial: {ranks: 3, sae: {latents: 64, "
           "k: 99}, train: {tokens: 1e4}}\n");
  EXPECT_EQ(Run({"submit", "s.yaml"}), 2);
  EXPECT_THAT(err(), HasSubstr("sae.k: 99 is more than sae.latents 64"));
  EXPECT_THAT(err(), HasSubstr("ranks: 3 does not divide"));
  EXPECT_EQ(Run({"submit", "none.yaml"}), 3);
  t_.Write("s.yaml",
           "apiVersion: saeloom/v1\nname: demo\nstore: nostore\ntrial: {sae: {latents: 64, k: 4}, "
           "train: {tokens: 1e4}}\n");
  EXPECT_EQ(Run({"submit", "s.yaml"}), 3);
  EXPECT_THAT(err(), HasSubstr("no activation store at"));
  EXPECT_TRUE(service_.created.parent().empty());
  EXPECT_EQ(out(), "");
}

TEST_F(CliTest, ATranscoderNeedsAStoreWithTargets) {
  t_.Write("s.yaml",
           "apiVersion: saeloom/v1\nname: demo\nstore: store\ntrial: {sae: {latents: 64, k: 4, "
           "transcoder: true}, train: {tokens: 1e4}}\n");
  for (const char* verb : {"submit", "validate", "plan"}) {
    EXPECT_EQ(Run({verb, "s.yaml"}), 2) << verb;
    EXPECT_THAT(err(), HasSubstr("trial.sae.transcoder: true: the store has no targets: make one "
                                 "with `saeloom harvest --hook HOOK --target-hook HOOK`"));
  }
  EXPECT_TRUE(service_.created.parent().empty());
  t_.Write("store/manifest.json", R"({"d": 16, "target_d": 24})");
  ASSERT_EQ(Run({"submit", "s.yaml"}), 0) << err();
  EXPECT_EQ(service_.created.spec().store_target_d(), 24);
  ASSERT_EQ(Run({"plan", "s.yaml"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("width 16, targets of width 24"));
}

TEST_F(CliTest, EveryArchitectureIsAccepted) {
  t_.Write("s.yaml", R"(apiVersion: saeloom/v1
name: all
store: store
trial: {sae: {latents: 64}, train: {tokens: 1e4}}
parameters:
  - sae.architecture: {values: [topk, batchtopk, matryoshka]}
    sae.k: {values: [4, 8]}
  - sae.architecture: {values: [relu_l1, gated, jumprelu]}
    sae.target_l0: {values: [4, 8]}
)");
  ASSERT_EQ(Run({"validate", "s.yaml"}), 0) << err();
  EXPECT_EQ(out(), "s.yaml: valid, 12 trials\n");
  ASSERT_EQ(Run({"plan", "s.yaml"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("sae.architecture=jumprelu sae.target_l0=8"));
  ASSERT_EQ(Run({"submit", "s.yaml"}), 0) << err();
  EXPECT_EQ(service_.created.spec().parameters_size(), 2);
}

TEST_F(CliTest, WaitTellsByItsExitCodeHowTheSweepEnded) {
  Finish(Sweep::STATE_SUCCEEDED, 2, 0);
  EXPECT_EQ(Run({"submit", "s.yaml", "--wait"}), 0) << err();
  Finish(Sweep::STATE_FAILED, 1, 1);
  EXPECT_EQ(Run({"submit", "s.yaml", "--wait"}), 10);
  EXPECT_EQ(Run({"submit", "s.yaml", "--follow"}), 10);
  EXPECT_EQ(Run({"watch", "demo", "--wait"}), 10);
  EXPECT_EQ(Run({"watch", "demo"}), 0);
  service_.sweep.clear_trials();
  Finish(Sweep::STATE_FAILED, 0, 2);
  EXPECT_EQ(Run({"submit", "s.yaml", "--wait"}), 11);
  Finish(Sweep::STATE_CANCELLED, 1, 0);
  EXPECT_EQ(Run({"submit", "s.yaml", "--wait", "-o", "json"}), 11);
  EXPECT_EQ(nlohmann::json::parse(out())["state"], "CANCELLED");
}

TEST_F(CliTest, EveryCodeHasItsExitCode) {
  const std::vector<std::pair<grpc::StatusCode, int>> codes = {
      {grpc::INVALID_ARGUMENT, 2},  {grpc::NOT_FOUND, 3},           {grpc::UNAUTHENTICATED, 4},
      {grpc::PERMISSION_DENIED, 4}, {grpc::FAILED_PRECONDITION, 5}, {grpc::ALREADY_EXISTS, 5},
      {grpc::ABORTED, 5},           {grpc::UNAVAILABLE, 6},         {grpc::DEADLINE_EXCEEDED, 6},
      {grpc::INTERNAL, 1},          {grpc::UNIMPLEMENTED, 1},       {grpc::RESOURCE_EXHAUSTED, 1}};
  for (const auto& [code, exit] : codes) {
    service_.error = grpc::Status(code, "because");
    EXPECT_EQ(Run({"cancel", "demo"}), exit) << code;
    const std::string text = err();
    EXPECT_EQ(text.rfind("error: ", 0), 0U) << text;
    EXPECT_EQ(out(), "");
  }
}

TEST_F(CliTest, WhatTheCoordinatorSaysOfAnAbsentWorkerIsNotTakenForItsOwnAbsence) {
  const std::string text = "worker w1, which has the logs, is not connected; they are in /runs";
  service_.error =
      grpc::Status(grpc::UNAVAILABLE, text, ErrorDetailsOf(absl::UnavailableError(text)));
  EXPECT_EQ(Run({"cancel", "demo"}), 6);
  EXPECT_THAT(err(), HasSubstr(text));
}

TEST_F(CliTest, AnUnreachableCoordinatorIsOneClearLine) {
  {
    testing::FakeService gone;
    t_.variables["SAELOOM_ADDR"] = gone.address();
  }
  EXPECT_EQ(Run({"list"}), 6);
  EXPECT_EQ(err(), "error: no coordinator answers at " + t_.variables["SAELOOM_ADDR"] +
                       " (from $SAELOOM_ADDR): start one with `saeloom up`, or name another with "
                       "--server HOST:PORT\n");
  EXPECT_EQ(Run({"watch", "demo"}), 6);
  EXPECT_EQ(Run({"submit", "s.yaml"}), 6);
  t_.variables.clear();
  EXPECT_EQ(Run({"list"}), 6);
  EXPECT_THAT(err(), HasSubstr("no coordinator is known"));
}

TEST_F(CliTest, UsageErrorsAre2) {
  EXPECT_EQ(Run({}), 2);
  EXPECT_EQ(Run({"submitt", "s.yaml"}), 2);
  EXPECT_EQ(err(), "error: unknown verb submitt, did you mean submit?\nhint: saeloom --help\n");
  EXPECT_EQ(Run({"list", "--nonsense"}), 2);
  EXPECT_EQ(Run({"list", "-o", "xml"}), 2);
  EXPECT_EQ(Run({"logs", "demo"}), 2);
  EXPECT_EQ(Run({"list", "--server", "nowhere"}), 2);
  EXPECT_EQ(Run({"list", "--timeout", "0"}), 2);
}

TEST_F(CliTest, EveryVerbHasHelpWithAnExample) {
  for (const char* verb :
       {"up", "validate", "plan", "submit", "list", "get", "watch", "logs", "best", "export",
        "retry", "cancel", "workers", "version", "completion"}) {
    EXPECT_EQ(Run({verb, "--help"}), 0) << verb;
    EXPECT_THAT(out(), HasSubstr("Example")) << verb;
    EXPECT_THAT(out(), HasSubstr(std::string("saeloom ") + verb)) << verb;
  }
}

TEST_F(CliTest, PlanAndValidateNeedNoCoordinator) {
  t_.variables.clear();
  ASSERT_EQ(Run({"plan", "s.yaml"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("sweep demo: 2 trials (grid)"));
  EXPECT_THAT(out(), HasSubstr("0001   sae.k=8         1      4   10.0k"));
  EXPECT_THAT(out(), HasSubstr(", width 16"));
  EXPECT_THAT(out(), HasSubstr("memory a rank"));
  ASSERT_EQ(Run({"validate", "s.yaml"}), 0) << err();
  EXPECT_EQ(out(), "s.yaml: valid, 2 trials\n");
  ASSERT_EQ(Run({"plan", "s.yaml", "-o", "json"}), 0);
  const auto j = nlohmann::json::parse(out());
  EXPECT_EQ(j["trials"][1]["parameters"]["sae.k"], 8);
  EXPECT_GT(j["memory_per_rank"], 0);
  t_.Write("bad.yaml", "a: [1\nb: 2\n");
  EXPECT_EQ(Run({"validate", "bad.yaml"}), 2);
  EXPECT_THAT(err(), HasSubstr("bad.yaml:2:"));
}

TEST_F(CliTest, WatchResumesWhereALostConnectionStood) {
  for (int i = 1; i <= 4; ++i) AddEvent(i % 2 == 0 ? "0001" : "0000", 10 * i);
  service_.break_stream_after = 3;
  Finish(Sweep::STATE_SUCCEEDED, 2, 0);
  ASSERT_EQ(Run({"watch", "demo", "--interval", "0"}), 0) << err();
  EXPECT_THAT(service_.watched_after, ElementsAre(0, 3));
  EXPECT_THAT(out(), HasSubstr("0000  topk k=4  step 10/244"));
  EXPECT_THAT(out(), HasSubstr("connection to " + service_.address() + " lost: trying again"));
  EXPECT_THAT(out(), HasSubstr("0001  topk k=8  step 40/244"));
  EXPECT_THAT(out(), Not(HasSubstr("\x1b")));
}

TEST_F(CliTest, WatchAsJsonIsOneEventALine) {
  AddEvent("0000", 10);
  AddEvent("0001", 20);
  ASSERT_EQ(Run({"watch", "demo", "-o", "json"}), 0) << err();
  std::istringstream lines(out());
  std::string line;
  std::getline(lines, line);
  const auto j = nlohmann::json::parse(line);
  EXPECT_EQ(j["seq"], 1);
  EXPECT_EQ(j["point"]["step"], 10);
  EXPECT_EQ(j["point"]["values"]["train.loss"], 0.1);
  EXPECT_TRUE(std::getline(lines, line) && nlohmann::json::parse(line)["trial"] == "0001");
}

TEST_F(CliTest, WatchOnATerminalRedrawsInPlace) {
  t_.world.terminal = true;
  t_.world.columns = [] { return 100; };
  t_.world.rows = [] { return 24; };
  AddEvent("0000", 10);
  service_.events.emplace_back().set_seq(2);
  service_.events.back().mutable_notice()->set_text("no worker has 4 slots");
  ASSERT_EQ(Run({"watch", "demo"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("TRIAL  PARAMETERS  STATE"));
  EXPECT_THAT(out(), HasSubstr("\x1b[4A\r\x1b[Jno worker has 4 slots\ndemo  RUNNING"));
}

TEST_F(CliTest, GetShowsAttemptsFolderCheckpointAndLog) {
  Trial& t = service_.trials[0];
  t.set_state(Trial::STATE_FAILED);
  t.set_reason("rank 1 ended with signal 9");
  t.set_directory("/runs/demo/0000");
  t.set_checkpoint("/runs/demo/0000/checkpoints/step-000000000100");
  t.add_log_tail("boom");
  auto* a = t.add_attempts();
  a->set_number(1);
  a->set_worker("worker-0");
  a->set_outcome("failed");
  a->set_reason("rank 1 ended with signal 9");
  a->set_failure_class(saeloom::v1::NODE_LOST);
  a->mutable_start_time()->set_seconds(100);
  a->mutable_end_time()->set_seconds(165);
  ASSERT_EQ(Run({"get", "demo/0000"}), 0) << err();
  for (const char* part :
       {"trial       demo/0000", "state       FAILED: rank 1 ended with signal 9",
        "directory   /runs/demo/0000", "checkpoint  /runs/demo/0000/checkpoints/step-000000000100",
        "      1  worker-0  failed           0  1m05s  NODE_LOST: rank 1 ended with signal 9",
        "  | boom"}) {
    EXPECT_THAT(out(), HasSubstr(part));
  }
  ASSERT_EQ(Run({"get", "projects/default/sweeps/demo/trials/0000", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out())["attempts"][0]["failure_class"], "NODE_LOST");
  ASSERT_EQ(Run({"get", "demo"}), 0);
  EXPECT_THAT(out(), HasSubstr("0001   topk k=8    SUCCEEDED"));
  ASSERT_EQ(Run({"get", "demo", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out())["trials"][1]["parameters"]["sae.k"], 8);
  EXPECT_EQ(Run({"get", "other"}), 3);
  EXPECT_EQ(Run({"get", "demo/9999"}), 3);
}

TEST_F(CliTest, ListAndWorkers) {
  (*service_.sweep.mutable_trials())["SUCCEEDED"] = 1;
  (*service_.sweep.mutable_trials())["RUNNING"] = 1;
  service_.sweep.mutable_create_time()->set_seconds(1'700'000'000 - 90);
  ASSERT_EQ(Run({"list"}), 0) << err();
  EXPECT_EQ(out(),
            "SWEEP  STATE    TRIALS                 AGE  TOOK\ndemo   RUNNING  1/2 done, 1 running "
            " 1m30s     -\n");
  ASSERT_EQ(Run({"list", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out())[0]["trials"]["RUNNING"], 1);
  ASSERT_EQ(Run({"workers"}), 0);
  EXPECT_THAT(out(), HasSubstr("no workers have registered"));
  auto* w = service_.workers.add_workers();
  w->set_id("worker-0");
  w->set_state("ready");
  w->set_slots(2);
  ASSERT_EQ(Run({"workers"}), 0);
  EXPECT_THAT(out(), HasSubstr("worker-0  ready      2     0"));
}

TEST_F(CliTest, LogsPrefixRanksUnlessOneIsAskedFor) {
  for (const auto& [rank, text] :
       std::vector<std::pair<int, std::string>>{{0, "a\nb"}, {1, "c\n"}, {0, "b\n"}, {1, "d"}}) {
    service_.logs.emplace_back().set_rank(rank);
    service_.logs.back().set_text(text);
  }
  ASSERT_EQ(Run({"logs", "demo/0000", "--lines", "5"}), 0) << err();
  EXPECT_EQ(out(), "[rank 0] a\n[rank 1] c\n[rank 0] bb\n[rank 1] d\n");
  EXPECT_EQ(service_.tailed.lines(), 5);
  EXPECT_EQ(service_.tailed.trial(), "projects/default/sweeps/demo/trials/0000");
  ASSERT_EQ(Run({"logs", "demo/0000", "--rank", "1", "--follow"}), 0);
  EXPECT_TRUE(service_.tailed.follow());
  EXPECT_EQ(service_.tailed.ranks(0), 1);
}

TEST_F(CliTest, BestPrintsTheTableAndWritesTheFigure) {
  ASSERT_EQ(Run({"best", "demo", "--svg", "p.svg"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("best (smallest heldout.fvu with heldout.l0 <= 64): 0001  topk k=8  "
                               "0.2000\nfigure: p.svg\n"));
  EXPECT_THAT(RealEnv().Read(t_.directory + "/p.svg").value(), HasSubstr("</svg>"));
  ASSERT_EQ(Run({"best", "demo", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out())["best"], "0001");
}

TEST_F(CliTest, TheSpeedInTheTableIsTheMedianOfTheRun) {
  service_.curve = {100, 4000, 5000, 6000, 90000};
  ASSERT_EQ(Run({"best", "demo", "-o", "json"}), 0) << err();
  EXPECT_EQ(nlohmann::json::parse(out())["trials"][0]["tokens_per_second"], 5000);
}

TEST_F(CliTest, RetryAndCancel) {
  ASSERT_EQ(Run({"retry", "demo", "--trial", "0001"}), 0) << err();
  EXPECT_EQ(out(), "pending again: 0001\n");
  EXPECT_EQ(service_.retried.trials(0), "0001");
  ASSERT_EQ(Run({"retry", "demo"}), 0);
  EXPECT_THAT(out(), HasSubstr("nothing to retry"));
  ASSERT_EQ(Run({"cancel", "demo"}), 0);
  EXPECT_THAT(out(), HasSubstr("sweep demo: CANCELLED"));
}

TEST_F(CliTest, ExportHandsTheNewestCheckpointOfTheBestTrialOver) {
  const std::string offline = t_.Write("bin/saeloom-offline", "#!/bin/sh\n", true);
  const std::string old_one = t_.Write("c/step-1/manifest.json", "{}");
  t_.Write("c/step-2/manifest.json", "{}");
  for (const int step : {2, 1}) {
    auto& c = service_.checkpoints.emplace_back();
    c.set_path(t_.directory + "/c/step-" + std::to_string(step));
    c.set_step(step);
  }
  ASSERT_EQ(
      Run({"export", "demo", "--best", "--format", "saelens", "--golden", "256", "--out", "sae"}),
      0)
      << err();
  EXPECT_THAT(t_.executed,
              ElementsAre(offline, "export", "--checkpoint", t_.directory + "/c/step-2", "--format",
                          "saelens", "--out", "sae", "--golden", "256"));
  EXPECT_THAT(err(), HasSubstr("exporting demo/0001 from"));
  EXPECT_EQ(Run({"export", "demo", "--out", "sae"}), 2);
  EXPECT_THAT(err(), HasSubstr("which of the 2 trials?"));
  service_.checkpoints[0].set_path("/elsewhere/step-2");
  EXPECT_EQ(Run({"export", "demo", "--trial", "0000", "--out", "sae"}), 3);
  service_.checkpoints.clear();
  EXPECT_EQ(Run({"export", "demo", "--trial", "0000", "--out", "sae"}), 5);
}

TEST_F(CliTest, OfflineVerbsAreHandedOverAsTheyStand) {
  EXPECT_EQ(Run({"harvest", "--model", "m.gguf"}), 3);
  EXPECT_THAT(err(), HasSubstr("saeloom-offline"));
  const std::string offline = t_.Write("bin/saeloom-offline", "#!/bin/sh\n", true);
  ASSERT_EQ(Run({"harvest", "--model", "m.gguf"}), 0) << err();
  EXPECT_THAT(t_.executed, ElementsAre(offline, "harvest", "--model", "m.gguf"));
  ASSERT_EQ(Run({"-o", "json", "store", "info", "x"}), 0);
  EXPECT_THAT(t_.executed, ElementsAre(offline, "-o", "json", "store", "info", "x"));
  ASSERT_EQ(Run({"export", "--checkpoint", "c", "--out", "o"}), 0);
  EXPECT_THAT(t_.executed, ElementsAre(offline, "export", "--checkpoint", "c", "--out", "o"));
  const std::string other = t_.Write("other/offline", "#!/bin/sh\n", true);
  ASSERT_EQ(Run({"--offline", other, "lm", "info"}), 0);
  EXPECT_THAT(t_.executed, ElementsAre(other, "lm", "info"));
}

TEST_F(CliTest, VersionAndCompletion) {
  ASSERT_EQ(Run({"version", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out())["api"], "saeloom.v1");
  ASSERT_EQ(Run({"completion", "bash"}), 0);
  EXPECT_THAT(out(), HasSubstr("complete -o filenames -F _saeloom saeloom"));
  EXPECT_THAT(out(), HasSubstr("--request-id"));
  ASSERT_EQ(Run({"completion", "zsh"}), 0);
  EXPECT_THAT(out(), HasSubstr("#compdef saeloom"));
  ASSERT_EQ(Run({"completion", "fish"}), 0);
  EXPECT_THAT(out(), HasSubstr("-a harvest"));
  EXPECT_EQ(Run({"completion", "tcsh"}), 2);
}

}  // namespace
}  // namespace sae::cli
