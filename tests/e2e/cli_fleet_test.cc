// Workers, queues and the coordinator itself, as an operator and an admin see them.

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "sae/base/env.h"
#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {
using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::int64_t kEndless = 10'000'000;

class FleetTest : public CliTest {
 protected:
  void TearDown() override { ExpectIdle(); }
};

TEST_F(FleetTest, TheWorkerIsTheOneOfItsCertificate) {
  EXPECT_THAT(world().worker(), StartsWith("one-"));
  const json one = Json("vera", {"worker", "get", world().worker()});
  EXPECT_EQ(one.at("state"), "ready");
  EXPECT_EQ(one.at("slots"), 2);
  for (const Arguments& list : {Arguments{"workers"}, {"worker", "list"}, {"node", "list"}}) {
    Arguments args = list;
    args.insert(args.end(), {"--limit", "5", "-o", "name"});
    EXPECT_EQ(Ok("vera", args).out, world().worker() + "\n");
  }
  EXPECT_EQ(Json("vera", {"node", "get", world().worker()}).at("id"), world().worker());
}

TEST_F(FleetTest, ADrainedWorkerSavesAndTakesItUpAgain) {
  Ok("sam", {"submit", world().Spec("drained", "2", kEndless), "--quiet"});
  ASSERT_TRUE(IsUnderWay("drained/0000"));
  const json drained = Json("olga", {"worker", "drain", world().worker(), "--reason", "driver",
                                     "--wait", "--request-id", "d2"});
  EXPECT_EQ(drained.at("state"), "cordoned");
  EXPECT_EQ(drained.at("reason"), "driver");
  EXPECT_EQ(drained.at("attempts"), json::array());
  const json waiting = Json("vera", {"trial", "get", "drained/0000"});
  EXPECT_EQ(waiting.at("state"), "PENDING");
  EXPECT_THAT(waiting.at("reason"), HasSubstr("(driver)"));
  EXPECT_EQ(Ok("olga", {"node", "uncordon", world().worker(), "--request-id", "u2"}).out,
            "worker " + world().worker() + ": ready\n");
  ASSERT_TRUE(IsUnderWay("drained/0000", waiting.at("step")));
  Ok("sam", {"cancel", "drained", "--now", "--wait", "--quiet"});
  EXPECT_EQ(Json("olga", {"node", "drain", world().worker(), "--reason", "disk", "--wait",
                          "--request-id", "d3"})
                .at("state"),
            "cordoned");
  Ok("olga", {"worker", "uncordon", world().worker(), "--quiet"});
}

TEST_F(FleetTest, ACordonedWorkerStartsNothing) {
  EXPECT_EQ(
      Json("olga", {"worker", "cordon", world().worker(), "--reason", "fan", "--request-id", "k1"})
          .at("state"),
      "cordoned");
  EXPECT_EQ(
      Json("olga", {"node", "cordon", world().worker(), "--reason", "fan", "--request-id", "k2"})
          .at("reason"),
      "fan");
  Ok("sam", {"submit", world().Spec("held", "2", 60), "--quiet"});
  EXPECT_THAT(Json("vera", {"get", "held/0000"}).at("reason"),
              HasSubstr("all workers are cordoned"));
  const CliRun plan = Run("sam", {"plan", world().Spec("planned", "2", 60), "--exit-code"});
  EXPECT_EQ(plan.code, 1) << "it would be created";
  EXPECT_THAT(plan.out, HasSubstr("would wait: all workers are cordoned"));
  Ok("olga", {"worker", "uncordon", world().worker()});
  EXPECT_TRUE(Becomes("held/0000", "SUCCEEDED"));
}

TEST_F(FleetTest, AQueuesQuotaHolds) {
  const json queue = Json(
      "olga", {"queue", "set", "small", "--quota", "1", "--weight", "2", "--request-id", "q1"});
  EXPECT_EQ(queue.at("quota_slots"), 1);
  EXPECT_EQ(queue.at("weight"), 2.0);
  Ok("sam", {"submit", world().Spec("queued", "2, 4", kEndless), "--queue", "small", "--quiet"});
  ASSERT_TRUE(IsUnderWay("queued/0000"));
  const json queues = Json("vera", {"queue", "list"});
  const auto small = std::find_if(queues.begin(), queues.end(),
                                  [](const json& q) { return q.at("name") == "small"; });
  ASSERT_NE(small, queues.end());
  EXPECT_EQ(small->at("used_slots"), 1);
  EXPECT_EQ(small->at("pending_trials"), 1);
  EXPECT_THAT(Json("vera", {"trial", "get", "queued/0001"}).at("reason"), HasSubstr("quota"));
  Ok("olga", {"queue", "set", "small", "--quota", "0"});
  ASSERT_TRUE(IsUnderWay("queued/0001"));
  Ok("sam", {"cancel", "queued", "--now", "--wait", "--quiet"});
  Fails("olga", {"queue", "set", "UPPER", "--quota", "1"}, 2, "INVALID_ARGUMENT");
}

TEST_F(FleetTest, TopShowsAllOnOneScreen) {
  const json top = Json("vera", {"top"});
  EXPECT_EQ(top.at("workers").at(0).at("id"), world().worker());
  EXPECT_FALSE(top.at("queues").empty());
  EXPECT_THAT(Ok("vera", {"top", "--once"}).out, HasSubstr("/2 slots in use  1 workers"));
}

TEST_F(FleetTest, TheCoordinatorTellsOfItselfAndKeepsItsSecrets) {
  const json health = Json("nobody", {"health"});
  EXPECT_EQ(health.at("state"), "SERVING");
  EXPECT_EQ(health.at("address"), world().address());
  const json version = Json("admin", {"version", "--coordinator"});
  EXPECT_EQ(version.at("coordinator").at("version"), version.at("version"));
  EXPECT_EQ(version.at("coordinator").at("address"), world().address());

  const json bundle = Json("olga", {"debug", "bundle", "--out", "bundle"});
  EXPECT_THAT(bundle.at("files").get<std::vector<std::string>>(),
              IsSupersetOf({"coordinator.json", "sweeps.json", "workers.json", "queues.json"}));
  EXPECT_THAT(bundle.at("files").get<std::vector<std::string>>(), Not(Contains("missing.txt")));
  const std::string secret = sae::RealEnv().Read(world().token("olga")).value_or("");
  ASSERT_FALSE(secret.empty());
  for (const std::string& name : bundle.at("files").get<std::vector<std::string>>()) {
    const auto text = sae::RealEnv().Read(world().home("olga") + "/bundle/" + name);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_THAT(*text, Not(HasSubstr(secret.substr(0, secret.size() - 1))));
  }
  EXPECT_EQ(Ok("olga", {"debug", "bundle", "--out", "all.tar", "-o", "name"}).out, "all.tar\n");
  EXPECT_EQ(world().Shell("olga", {"/bin/sh", "-c", "tar -tf all.tar | grep -c workers.json"}).out,
            "1\n");
}

/// Each goes on until Ctrl-C, and prints again what has changed.
TEST_F(FleetTest, WatchedListsFollowAndEndWithCtrlC) {
  Ok("sam", {"submit", world().Spec("watched", "2", kEndless), "--quiet"});
  ASSERT_TRUE(IsUnderWay("watched/0000"));
  const std::string trial = "watched/0000", sweep = "watched", worker = world().worker();
  const std::vector<std::pair<Arguments, std::string>> watches = {
      {{"list"}, sweep},
      {{"sweep", "list"}, sweep},
      {{"sweep", "get", sweep}, sweep},
      {{"sweep", "describe", sweep}, sweep},
      {{"sweep", "pareto", sweep}, "no trial"},
      {{"get", sweep}, sweep},
      {{"trial", "list", sweep}, "0000"},
      {{"trial", "get", trial}, "0000"},
      {{"trial", "describe", trial}, trial},
      {{"trial", "metrics", trial, "--metric", "train.loss"}, "train.loss"},
      {{"checkpoint", "list", sweep}, ""},
      {{"workers"}, worker},
      {{"worker", "list"}, worker},
      {{"worker", "get", worker}, worker},
      {{"node", "list"}, worker},
      {{"node", "get", worker}, worker},
      {{"queue", "list"}, "default"},
      {{"token", "list"}, "olga"},
      {{"audit", "list"}, "CreateSweep"},
      {{"top"}, worker}};
  std::vector<std::unique_ptr<CliProcess>> running;
  for (const auto& [args, text] : watches) {
    Arguments watched = args;
    watched.push_back("--watch");
    running.push_back(world().Start("admin", watched));
  }
  for (std::size_t i = 0; i < watches.size(); ++i) {
    const auto& [args, text] = watches[i];
    EXPECT_TRUE(running[i]->Prints(text)) << ::testing::PrintToString(args) << running[i]->err();
  }
  Ok("sam", {"sweep", "cancel", sweep, "--now", "--wait", "--quiet"});
  for (const int i : {0, 1, 2, 3, 5})
    EXPECT_TRUE(running[static_cast<std::size_t>(i)]->Prints("CANCELLED")) << i;
  for (std::size_t i = 0; i < watches.size(); ++i) {
    Arguments watched = watches[i].first;
    watched.push_back("--watch");
    const int code = running[i]->Interrupt();
    EXPECT_EQ(code, 130) << ::testing::PrintToString(watched) << running[i]->err();
    if (code == 130) world().NoteDone(watched);
  }
}

TEST_F(FleetTest, CtrlCEndsTheWaitingAndNeverTheSweep) {
  const auto wait =
      world().Start("sam", {"submit", world().Spec("going", "2", kEndless), "--wait"});
  ASSERT_TRUE(wait->Prints("1 running"));
  const auto follow = world().Start("vera", {"logs", "going/0000", "--follow"});
  const auto events = world().Start("vera", {"events", "going", "--follow"});
  ASSERT_TRUE(events->Prints("RUNNING"));
  EXPECT_EQ(wait->Interrupt(), 130);
  EXPECT_EQ(follow->Interrupt(), 130);
  EXPECT_EQ(events->Interrupt(), 130);
  EXPECT_EQ(StateOf("going"), "RUNNING");
  const auto watch = world().Start("vera", {"watch", "going", "--wait"});
  Ok("sam", {"cancel", "going", "--now", "--wait", "--quiet"});
  EXPECT_EQ(watch->Wait(), 11) << "it ends with the sweep";
}

}  // namespace
}  // namespace saeloom::e2e
