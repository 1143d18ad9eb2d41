// Everything that changes a sweep or a trial, with trainers that would run for hours.

#include <filesystem>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {
using nlohmann::json;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr std::int64_t kEndless = 10'000'000;

class Change : public CliTest {
 protected:
  void TearDown() override { ExpectIdle(); }
  std::string Submit(const std::string& name, const std::string& k, std::int64_t steps,
                     const std::string& more = "") {
    return Ok("sam", {"submit", world().Spec(name, k, steps, more), "-o", "name"}).out;
  }
  std::int64_t Step(const std::string& trial) {
    return Json("vera", {"trial", "get", trial}).at("step");
  }
  /// Of its newest checkpoint, ".../step-000000000060".
  std::int64_t SavedStep(const std::string& trial) {
    const std::string path = Json("vera", {"trial", "get", trial}).at("checkpoint");
    return std::stoll(path.substr(path.rfind('-') + 1));
  }
};

TEST_F(Change, ASweepIsPausedResumedAndCancelled) {
  EXPECT_EQ(Submit("long", "2", kEndless), "long\n");
  ASSERT_TRUE(IsUnderWay("long/0000"));
  EXPECT_EQ(Ok("sam", {"sweep", "pause", "long", "--wait", "--request-id", "p1"}).out,
            "sweep long: PAUSED, 0/1 done\n");
  EXPECT_EQ(Ok("sam", {"sweep", "pause", "long", "--request-id", "p1", "--quiet"}).out, "");
  const json paused = Json("vera", {"trial", "get", "long/0000"});
  EXPECT_EQ(paused.at("state"), "PENDING");
  EXPECT_EQ(paused.at("reason"), "its sweep is paused");
  const std::int64_t saved = SavedStep("long/0000");
  EXPECT_GE(saved, paused.at("step"));
  EXPECT_EQ(Json("sam", {"sweep", "resume", "long", "--request-id", "r1"}).at("state"), "RUNNING");
  ASSERT_TRUE(IsUnderWay("long/0000", saved)) << "from its checkpoint";
  EXPECT_EQ(Json("vera", {"get", "long/0000"}).at("attempts")[1].at("from_step"), saved);
  EXPECT_EQ(Json("sam", {"sweep", "cancel", "long", "--wait", "--request-id", "c1"}).at("state"),
            "CANCELLED");
  EXPECT_EQ(StateOf("long/0000"), "CANCELLED");
  EXPECT_EQ(Run("vera", {"sweep", "watch", "long", "--wait"}).code, 11);
  EXPECT_EQ(Run("vera", {"watch", "long"}).code, 0) << "without --wait: watched to the end";
  EXPECT_EQ(Fails("sam", {"sweep", "pause", "long"}, 5, "FAILED_PRECONDITION").at("reason"),
            "SWEEP_HAS_ENDED");

  EXPECT_EQ(Ok("sam", {"sweep", "delete", "long", "-o", "name", "--request-id", "d1"}).out,
            "long\n");
  Fails("vera", {"sweep", "get", "long"}, 3, "NOT_FOUND");
  EXPECT_TRUE(fs::exists(world().runs() + "/long/0000")) << "its files stay";
}

TEST_F(Change, ASweepThatIsPausedBeforeItStartsWaitsForResume) {
  Ok("olga", {"worker", "cordon", world().worker(), "--quiet"});
  Submit("later", "2", 60);
  Ok("sam", {"sweep", "pause", "later", "--wait", "--quiet"});
  Ok("olga", {"worker", "uncordon", world().worker(), "--quiet"});
  EXPECT_EQ(Json("vera", {"trial", "get", "later/0000"}).at("reason"), "its sweep is paused");
  EXPECT_THAT(Ok("sam", {"sweep", "resume", "later", "--wait"}).out,
              HasSubstr("sweep later  SUCCEEDED"));
}

TEST_F(Change, WhatWasCancelledAtOnceIsTriedAgain) {
  Submit("again", "2", kEndless);
  ASSERT_TRUE(IsUnderWay("again/0000"));
  EXPECT_EQ(Json("sam", {"cancel", "again", "--now", "--wait", "--request-id", "c2"}).at("state"),
            "CANCELLED");
  EXPECT_EQ(Ok("sam", {"retry", "again", "-o", "name"}).out, "") << "none has failed";
  EXPECT_THAT(Ok("sam", {"retry", "again", "--missing", "--request-id", "t1"}).out,
              HasSubstr("pending again: 0000"));
  ASSERT_TRUE(IsUnderWay("again/0000"));
  Ok("sam", {"cancel", "again", "--now", "--wait", "--quiet"});
  EXPECT_EQ(Ok("sam", {"sweep", "retry", "again", "--trial", "0000", "-o", "name"}).out,
            "again/0000\n");
  ASSERT_TRUE(IsUnderWay("again/0000"));
  Ok("sam", {"sweep", "cancel", "again", "--now", "--wait", "--quiet"});
  EXPECT_EQ(Ok("sam", {"sweep", "retry", "again", "--missing", "-o", "name"}).out, "again/0000\n");
  Ok("sam", {"cancel", "again", "--now", "--wait", "--quiet"});
}

TEST_F(Change, FailedTrialsAreTriedAgainOnceTheCauseIsGone) {
  Ok("olga", {"worker", "cordon", world().worker()});
  Submit("lost", "2, 4", 60);
  Ok("olga", {"queue", "set", "side", "--weight", "2", "--request-id", "q0"});
  fs::rename(world().store(), world().store() + ".away");
  Ok("olga", {"worker", "uncordon", world().worker()});
  const CliRun watched = Run("vera", {"watch", "lost", "--wait"});
  EXPECT_EQ(watched.code, 11) << "every trial failed: " << watched.out;
  fs::rename(world().store() + ".away", world().store());
  const json failed = Json("vera", {"trial", "get", "lost/0000"});
  EXPECT_EQ(failed.at("state"), "FAILED");
  EXPECT_EQ(failed.at("failure_class"), "INVALID_CONFIG");
  EXPECT_THAT(failed.at("reason"), HasSubstr("has not the activation store"));

  EXPECT_EQ(Run("sam", {"retry", "lost", "--trial", "0000", "--wait", "--request-id", "t2"}).code,
            10)
      << "one of two failed";
  EXPECT_EQ(StateOf("lost/0000"), "SUCCEEDED");
  EXPECT_EQ(StateOf("lost/0001"), "FAILED");
  EXPECT_EQ(Ok("sam", {"retry", "lost", "--filter", "failure_class=HANG"}).out,
            "nothing to retry: no trial of lost matches\n");
  EXPECT_EQ(Ok("sam", {"sweep", "retry", "lost", "--filter", "failure_class=INVALID_CONFIG",
                       "--quiet", "--wait", "--request-id", "t3"})
                .out,
            "");
  Fails("sam", {"retry", "lost", "--trial", "0000"}, 5, "FAILED_PRECONDITION");
  EXPECT_EQ(StateOf("lost"), "SUCCEEDED");
  Fails("sam", {"retry", "lost", "--trial", "0007"}, 3, "NOT_FOUND");
}

TEST_F(Change, SettingsOfASweepChangeUnderItsEtag) {
  Ok("olga", {"queue", "set", "side", "--quota", "1"});
  Submit("tuned", "2, 4", kEndless);
  ASSERT_TRUE(IsUnderWay("tuned/0000"));
  const std::string etag = Json("vera", {"sweep", "get", "tuned"}).at("etag");
  const json changed =
      Json("sam", {"sweep", "set", "tuned", "--priority", "80", "--max-concurrent", "1", "--label",
                   "stage=draft", "--queue", "side", "--etag", etag, "--request-id", "s1"});
  EXPECT_EQ(changed.at("spec").at("priority"), 80);
  EXPECT_EQ(changed.at("spec").at("max_concurrent"), 1);
  EXPECT_EQ(changed.at("spec").at("queue"), "side");
  EXPECT_NE(changed.at("etag"), etag);
  const json conflict =
      Fails("sam", {"sweep", "set", "tuned", "--priority", "1", "--etag", etag}, 5, "ABORTED");
  EXPECT_EQ(conflict.at("reason"), "ETAG_IS_OLD");
  EXPECT_THAT(conflict.at("hint"), HasSubstr("read it again"));
  EXPECT_EQ(Ok("vera", {"list", "--filter", "queue=side", "-o", "name"}).out, "tuned\n");
  Ok("sam", {"sweep", "set", "tuned", "--unlabel", "stage"});
  EXPECT_EQ(Ok("vera", {"list", "--filter", "labels.stage=draft", "-o", "name"}).out, "");
  Fails("sam", {"sweep", "set", "tuned", "--queue", "nowhere"}, 2, "INVALID_ARGUMENT");
  Fails("tom", {"sweep", "set", "tuned", "--priority", "1"}, 4, "PERMISSION_DENIED");
  EXPECT_EQ(Json("vera", {"sweep", "get", "tuned"}).at("spec").at("priority"), 80);
  Ok("olga", {"sweep", "cancel", "tuned", "--now", "--wait"});
  EXPECT_EQ(StateOf("tuned"), "CANCELLED");
}

TEST_F(Change, ATrialIsPausedResumedAndStopped) {
  Submit("trials", "2, 4", kEndless);
  ASSERT_TRUE(IsUnderWay("trials/0000"));
  ASSERT_TRUE(IsUnderWay("trials/0001"));
  const json paused =
      Json("sam", {"trial", "pause", "trials/0000", "--wait", "--request-id", "p2"});
  EXPECT_EQ(paused.at("state"), "PAUSED");
  EXPECT_EQ(StateOf("trials/0001"), "RUNNING") << "the other goes on";
  const std::int64_t step = paused.at("step");
  EXPECT_EQ(Ok("sam", {"trial", "resume", "trials/0000", "--wait", "--request-id", "r2"}).out,
            "trial trials/0000: RUNNING\n");
  ASSERT_TRUE(IsUnderWay("trials/0000", step));
  EXPECT_EQ(
      Ok("sam", {"trial", "stop", "trials/0000", "trials/0001", "--wait", "--request-id", "s2"})
          .out,
      "trial trials/0000: STOPPED_EARLY\ntrial trials/0001: STOPPED_EARLY\n");
  EXPECT_EQ(StateOf("trials"), "SUCCEEDED") << "stopping early is a success";
  EXPECT_EQ(Fails("sam", {"trial", "resume", "trials/0000"}, 5, "FAILED_PRECONDITION").at("reason"),
            "TRIAL_STATE");
}

TEST_F(Change, ATrialOfASearchIsPromotedByHand) {
  // The first rung is at a quarter: far enough to be seen on the way there.
  Submit("climb", "2, 4, 8, 16", 60'000,
         "search: {asha: {maxTrials: 4, eta: 4, mode: promote}}\nmaxConcurrent: 1\n");
  ASSERT_TRUE(IsUnderWay("climb/0000"));
  Ok("olga", {"worker", "cordon", world().worker(), "--reason", "hold"});  // no fresh one starts
  ASSERT_TRUE(Becomes("climb/0000", "PAUSED")) << "at its rung";
  const std::int64_t rung = SavedStep("climb/0000");
  EXPECT_GE(rung, 15'000);
  const Arguments promote = {"trial", "promote", "climb/0000", "--wait", "--request-id", "m1"};
  const auto promoting = world().Start("sam", promote);
  ASSERT_TRUE(Becomes("climb/0000", "PENDING"));
  Ok("olga", {"worker", "uncordon", world().worker(), "--request-id", "u1"});
  EXPECT_EQ(promoting->Wait(), 0) << promoting->err();
  EXPECT_EQ(promoting->out(), "trial climb/0000: RUNNING\n") << "before the fresh ones";
  world().NoteDone(promote);
  EXPECT_EQ(Json("vera", {"get", "climb/0000"}).at("attempts")[1].at("from_step"), rung);
  Ok("sam", {"cancel", "climb", "--now", "--wait", "--quiet"});
  EXPECT_EQ(Fails("sam", {"trial", "promote", "climb/0000"}, 5, "FAILED_PRECONDITION").at("reason"),
            "TRIAL_STATE");
}

TEST_F(Change, PointsAreAddedAndTrialsForked) {
  Ok("sam", {"submit", world().Spec("base", "2", 60), "--wait", "--quiet"});
  CliRun run =
      Ok("sam", {"sweep", "add", "base", "--values", "sae.k=2,4", "--request-id", "a1", "--wait"});
  EXPECT_THAT(run.out, HasSubstr("sweep base: 1 trials more, 0001 to 0001; 1 were there\n"));
  EXPECT_EQ(Json("vera", {"trial", "get", "base/0001"}).at("parameters").at("sae.k"), 4);
  EXPECT_EQ(StateOf("base/0001"), "SUCCEEDED");
  EXPECT_EQ(Ok("sam", {"sweep", "add", "base", "-f", world().Spec("base", "4, 8", 60), "-o", "name",
                       "--wait"})
                .out,
            "base/0002\n");
  EXPECT_EQ(
      Ok("sam", {"sweep", "add", "base", "--file", world().Spec("base", "8", 60), "-o", "name"})
          .out,
      "");
  Ok("sam", {"submit", world().Spec("drawn", "2, 4, 8", 60, "search: {random: {maxTrials: 1}}\n"),
             "--wait", "--quiet"});
  EXPECT_EQ(Ok("sam", {"sweep", "add", "drawn", "--draws", "1", "--wait", "-o", "name"}).out,
            "drawn/0001\n");

  run = Ok("sam", {"sweep", "fork", "base/0001", "--name", "longer", "--tokens", "12800", "--wait",
                   "--request-id", "f1"});
  const json forked = Json("vera", {"get", "longer/0000"});
  EXPECT_EQ(forked.at("state"), "SUCCEEDED");
  EXPECT_EQ(forked.at("step"), 100);
  EXPECT_EQ(forked.at("attempts")[0].at("from_step"), 60);
  const json sweep = Json("vera", {"sweep", "get", "longer"});
  EXPECT_EQ(sweep.at("forked_from"),
            "projects/default/sweeps/base/trials/0001/checkpoints/step-000000000060");
  for (const char* flag : {"-f", "--file"}) {
    const std::string name = std::string("from") + flag[1] + (flag[2] == 0 ? "" : "ile");
    EXPECT_EQ(Ok("sam", {"sweep", "fork", "base/0001/step-000000000060", flag,
                         world().Spec("other", "4", 90), "--name", name, "--wait", "-o", "name"})
                  .out,
              name + "\n");
    EXPECT_EQ(Step(name + "/0000"), 90);
  }
  Fails("sam", {"sweep", "fork", "base/0001", "--name", "less", "--tokens", "1000"}, 2,
        "INVALID_ARGUMENT");
}

TEST_F(Change, AProtectedCheckpointStaysUntilItIsLetGo) {
  Submit("held-on", "2", kEndless);
  ASSERT_TRUE(IsUnderWay("held-on/0000"));
  const auto pause = [&] {
    Ok("sam", {"trial", "pause", "held-on/0000", "--wait", "--quiet"});
    return Json("vera", {"checkpoint", "list", "held-on/0000"});
  };
  const auto named = [](const json& list, const std::string& name) {
    const auto it =
        std::find_if(list.begin(), list.end(), [&](const json& c) { return c.at("name") == name; });
    return it == list.end() ? json() : *it;
  };
  const std::string step = pause().back().at("name");
  const std::string name = "held-on/0000/" + step;
  const std::vector<Arguments> verbs = {
      {"checkpoint", "protect", name, "--request-id", "h1"},
      {"checkpoint", "gc", "held-on", "--dry-run", "--request-id", "h2"},
      {"checkpoint", "unprotect", name, "--request-id", "h3"},
      {"checkpoint", "gc", "held-on", "--request-id", "h4"}};
  Fails("tom", verbs[0], 4, "PERMISSION_DENIED");
  EXPECT_EQ(Json("sam", verbs[0]).at("protected"), true);
  Ok("sam", {"trial", "resume", "held-on/0000", "--wait", "--quiet"});
  ASSERT_TRUE(ProcessRig::WaitUntil([&] {  // the policy keeps the two latest of each trial
    const json list = Json("vera", {"checkpoint", "list", "held-on/0000"});
    const auto newer = std::count_if(list.begin(), list.end(), [&](const json& c) {
      return c.at("name").get<std::string>() > step;
    });
    return HasFailure() || newer >= 2;
  }));
  const json later = named(pause(), step);
  ASSERT_TRUE(later.is_object()) << "newer ones have come";
  EXPECT_EQ(later.at("protected"), true);
  EXPECT_TRUE(fs::exists(later.at("path").get<std::string>())) << later;
  EXPECT_FALSE(named(Json("sam", verbs[1]).at("deleted"), step).is_object());
  EXPECT_EQ(Json("sam", verbs[2]).at("protected"), false);
  Ok("sam", verbs[3]);
  EXPECT_TRUE(ProcessRig::WaitUntil([&] {
    return HasFailure() ||
           !named(Json("vera", {"checkpoint", "list", "held-on/0000"}), step).is_object();
  }));
  EXPECT_TRUE(
      ProcessRig::WaitUntil([&] { return !fs::exists(later.at("path").get<std::string>()); }));
  EXPECT_FALSE(Json("vera", {"checkpoint", "list", "held-on/0000"}).empty());
  Ok("sam", {"cancel", "held-on", "--now", "--wait", "--quiet"});
}

TEST_F(Change, TwiceWithTheSameRequestIdHappensOnce) {
  const std::string spec = world().Spec("once", "2", 60);
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(Ok("sam", {"submit", "-f", spec, "--request-id", "only", "-o", "name"}).out,
              "once\n");
  EXPECT_EQ(Fails("sam", {"submit", "--file", spec}, 5, "ALREADY_EXISTS").at("reason"),
            "NAME_WAS_USED");
  const json dry = Json("sam", {"submit", spec, "--name", "dry", "--dry-run"});
  EXPECT_EQ(dry.at("name"), "projects/default/sweeps/dry");
  Fails("vera", {"sweep", "get", "dry"}, 3, "NOT_FOUND");
  ASSERT_TRUE(Becomes("once", "SUCCEEDED"));
  EXPECT_THAT(Ok("sam", {"submit", "--file", spec, "--name", "followed", "--follow"}).out,
              HasSubstr("sweep followed  SUCCEEDED"));
}

}  // namespace
}  // namespace saeloom::e2e
