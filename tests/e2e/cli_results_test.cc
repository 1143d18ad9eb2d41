// A whole sweep, trained over TLS by gangs of two ranks, and everything that can be read of it:
// each view must say the same as the others.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include <gmock/gmock.h>

#include "sae/base/env.h"
#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace fs = std::filesystem;

constexpr std::int64_t kSteps = 60;

class Results : public CliTest {
 protected:
  static void SetUpTestSuite() {
    CliWorld& world = *CliWorld::current;
    submitted_ = std::make_unique<CliRun>(
        world.Run("sam", {"submit", world.Spec("whole", "2, 4", kSteps, "", 2), "--wait", "--label",
                          "team=a", "--priority", "7", "--queue", "default", "-o", "json"}));
  }
  static void TearDownTestSuite() { submitted_ = nullptr; }
  void SetUp() override { ASSERT_EQ(submitted_->code, 0) << submitted_->err << world().Logs(); }

  std::vector<json> Trials() { return Json("vera", {"trial", "list", "whole"}); }
  static double Fvu(const json& trial) { return trial.at("metrics").at("heldout.fvu"); }
  /// "0001", by the objective.
  std::string Best() {
    const auto trials = Trials();
    EXPECT_EQ(trials.size(), 2U);
    return Fvu(trials.at(0)) <= Fvu(trials.at(1)) ? "0000" : "0001";
  }
  std::string home(const std::string& path) { return world().home("vera") + "/" + path; }

  static inline std::unique_ptr<CliRun> submitted_;
};

TEST_F(Results, SubmitWithWaitTellsHowItEnded) {
  const json sweep = submitted_->json();
  EXPECT_EQ(sweep.at("name"), "projects/default/sweeps/whole");
  EXPECT_EQ(sweep.at("state"), "SUCCEEDED");
  EXPECT_EQ(sweep.at("owner"), "sam");
  EXPECT_EQ(sweep.at("spec").at("priority"), 7);
  EXPECT_EQ(sweep.at("spec").at("labels"), (json{{"team", "a"}}));
  EXPECT_EQ(sweep.at("trials").at("SUCCEEDED"), 2);
}

TEST_F(Results, ListsAndViewsOfTheSweepAgree) {
  EXPECT_EQ(Ok("vera", {"list", "--filter", "labels.team=a", "-o", "name"}).out, "whole\n");
  EXPECT_EQ(Ok("vera", {"sweep", "list", "--filter", "labels.team=b", "-o", "name"}).out, "");
  EXPECT_EQ(Ok("vera", {"sweep", "list", "--order-by", "name", "--limit", "1", "-o", "name"}).out,
            Ok("vera", {"list", "--order-by", "name", "--limit", "1", "-o", "name"}).out);
  const json sweep = Json("vera", {"sweep", "get", "whole"});
  EXPECT_EQ(sweep.at("state"), "SUCCEEDED");
  EXPECT_EQ(sweep.at("best_trial")
                .get<std::string>()
                .substr(sweep.at("best_trial").get<std::string>().rfind('/') + 1),
            Best());
  const json both = Json("vera", {"get", "whole"});
  EXPECT_EQ(both.at("sweep"), sweep);
  EXPECT_EQ(both.at("trials").size(), 2U);
  EXPECT_EQ(Json("vera", {"sweep", "describe", "whole"}), both);
  const std::string text = Ok("vera", {"get", "whole"}).out;
  EXPECT_THAT(text, HasSubstr("owner     sam\n"));
  EXPECT_THAT(text, HasSubstr("trials    2/2 done\n"));
  EXPECT_THAT(
      Ok("vera", {"top", "--once", "--filter", "name=whole", "-o", "json"}).json().at("sweeps"),
      ElementsAre(sweep));
}

TEST_F(Results, TrialsTellWhatTheyReached) {
  const auto trials = Trials();
  for (const json& t : trials) {
    EXPECT_EQ(t.at("state"), "SUCCEEDED");
    EXPECT_EQ(t.at("step"), kSteps);
    EXPECT_EQ(t.at("total_steps"), kSteps);
    EXPECT_EQ(t.at("tokens"), kSteps * 128);
    EXPECT_EQ(t.at("metrics").at("heldout.l0"), t.at("parameters").at("sae.k"));
  }
  EXPECT_EQ(Ok("vera", {"trial", "list", "whole", "--order-by", "objective", "--limit", "1",
                        "--filter", "state=SUCCEEDED", "-o", "name"})
                .out,
            "whole/" + Best() + "\n");
  EXPECT_EQ(Ok("vera", {"trial", "get", "whole/0000", "whole/0001", "-o", "name"}).out,
            "whole/0000\nwhole/0001\n");
  const json one = Json("vera", {"trial", "describe", "whole/0000"});
  EXPECT_EQ(Json("vera", {"get", "whole/0000"}), one);
  ASSERT_EQ(one.at("attempts").size(), 1U);
  EXPECT_EQ(one.at("attempts")[0].at("outcome"), "succeeded");
  EXPECT_EQ(one.at("attempts")[0].at("worker"), world().worker());
  EXPECT_EQ(one.at("directory"), world().runs() + "/whole/0000");
  EXPECT_THAT(Ok("vera", {"trial", "describe", "whole/0000"}).out,
              HasSubstr("step        60/60  7.68k tokens"));
}

TEST_F(Results, BestAndParetoFollowTheMetrics) {
  const std::string best = Best();
  EXPECT_EQ(Ok("vera", {"best", "whole", "-o", "name"}).out, "whole/" + best + "\n");
  const json results = Json("vera", {"sweep", "best", "whole", "--svg", "front.svg"});
  EXPECT_EQ(results.at("best"), best);
  EXPECT_EQ(results.at("trials").size(), 2U);
  EXPECT_THAT(sae::RealEnv().Read(home("front.svg")).value_or(""), HasSubstr("<svg"));
  Ok("vera", {"best", "whole", "--svg", "front2.svg"});
  EXPECT_TRUE(fs::exists(home("front2.svg")));
  // The smaller k has the smaller L0 and the larger FVU: both are on the front of the two.
  EXPECT_EQ(Json("vera", {"sweep", "pareto", "whole"}).size(), 2U);
  EXPECT_EQ(Ok("vera", {"sweep", "pareto", "whole", "--metric", "heldout.fvu", "-o", "name"}).out,
            "whole/" + best + "\n");
}

TEST_F(Results, CurvesHaveEveryStepOnce) {
  const auto steps = [&](Arguments args) -> std::vector<std::int64_t> {
    args.insert(args.begin(), {"trial", "metrics", "whole/0001", "--metric", "train.loss"});
    const json series = Json("vera", args);
    EXPECT_EQ(series.size(), 1U);
    EXPECT_EQ(series.at(0).at("metric"), "train.loss");
    return series.at(0).at("steps");
  };
  std::vector<std::int64_t> every(kSteps);
  std::iota(every.begin(), every.end(), 1);
  EXPECT_EQ(steps({"--points", "0"}), every);
  EXPECT_EQ(steps({"--points", "0", "--all-attempts"}), every);
  EXPECT_EQ(steps({"--points", "0", "--after-step", "57"}),
            (std::vector<std::int64_t>{58, 59, 60}));
  EXPECT_EQ(steps({"--points", "5", "--sampling", "mean"}).size(), 5U);
}

TEST_F(Results, LogsAreThoseOfTheRanks) {
  for (const Arguments& verb : {Arguments{"logs"}, Arguments{"trial", "logs"}}) {
    const auto logs = [&](Arguments args) {
      args.insert(args.begin(), "whole/0000");
      args.insert(args.begin(), verb.begin(), verb.end());
      return Ok("vera", args).out;
    };
    EXPECT_THAT(logs({}), HasSubstr("[rank 0] "));
    const std::string last = logs({"--rank", "0", "--lines", "2", "--attempt", "1"});
    EXPECT_EQ(std::count(last.begin(), last.end(), '\n'), 2);
    EXPECT_THAT(last, HasSubstr("step 60"));
    EXPECT_THAT(logs({"--grep", "step 60 of 60", "--follow"}), StartsWith("[rank 0] "));
    EXPECT_EQ(logs({"--since", "1h", "--rank", "0"}), logs({"--rank", "0"}));
    Arguments missing = verb;
    missing.insert(missing.end(), {"whole/0000", "--rank", "2"});
    EXPECT_THAT(Fails("vera", missing, 3, "NOT_FOUND").at("message"),
                HasSubstr("no rank 2, only 0 to 1"));
  }
}

TEST_F(Results, WatchEndsWithTheSweep) {
  CliRun run = Ok("vera", {"watch", "whole", "--wait", "--interval", "0", "-o", "jsonl"});
  EXPECT_EQ(run.lines().back().at("sweep_change").at("state"), "SUCCEEDED");
  run = Ok("vera", {"sweep", "watch", "whole", "--wait", "--interval", "0"});
  EXPECT_THAT(run.out, HasSubstr("sweep whole  SUCCEEDED"));
}

TEST_F(Results, EventsCanBeReadAgainFromAnywhere) {
  std::map<std::int64_t, std::string> tokens;
  const auto events = [&](Arguments args) {
    args.insert(args.begin(), {"events", "whole", "-o", "jsonl"});
    auto lines = Ok("vera", args).lines();
    for (json& line : lines) {  // where a stream gives one depends on where it began
      if (const std::string token = line.at("resume_token"); !token.empty())
        tokens[line.at("seq")] = token;
      line.erase("resume_token");
    }
    return lines;
  };
  const auto all = events({});
  ASSERT_GT(all.size(), 10U);
  for (std::size_t i = 1; i < all.size(); ++i)
    ASSERT_LT(all[i - 1].at("seq").get<int>(), all[i].at("seq").get<int>());
  EXPECT_EQ(all.back().at("sweep_change").at("state"), "SUCCEEDED");
  EXPECT_EQ(events({"--follow"}), all);
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  const std::vector<json> rest(middle + 1, all.end());
  EXPECT_EQ(events({"--after", middle->at("seq").dump()}), rest);
  ASSERT_FALSE(tokens.empty());
  const auto [seq, token] = *tokens.begin();
  const std::vector<json> resumed = events({"--resume", token});
  EXPECT_EQ(resumed, events({"--after", std::to_string(seq)}));
  for (const json& e : events({"--trial", "0001", "--kind", "lifecycle"}))
    EXPECT_TRUE(e.at("trial") == "0001" || e.at("trial") == "") << e;
  EXPECT_FALSE(events({"--kind", "point", "--conflate", "500"}).empty());
}

TEST_F(Results, CheckpointsAreWhereTheyAreSaidToBe) {
  const json checkpoints = Json("vera", {"checkpoint", "list", "whole"});
  ASSERT_EQ(checkpoints.size(), 2U);
  for (const json& c : checkpoints) {
    EXPECT_EQ(c.at("step"), kSteps);
    EXPECT_TRUE(fs::exists(c.at("path").get<std::string>())) << c;
  }
  EXPECT_EQ(Ok("vera", {"checkpoint", "list", "whole/0000", "-o", "name"}).out,
            "whole/0000/step-000000000060\n");
}

TEST_F(Results, TheBestIsExportedReadBackAndUsedWithoutTheCoordinator) {
  CliRun run = Ok("vera", {"export", "whole", "--best", "--format", "saelens", "--golden", "16",
                           "--out", "sae"});
  EXPECT_THAT(run.err, HasSubstr("exporting whole/" + Best()));
  const auto config = sae::RealEnv().Read(home("sae/cfg.json"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(json::parse(*config).at("d_sae"), 256);
  Ok("vera", {"sweep", "export", "whole", "--trial", "0001", "--format", "saelens", "--golden", "8",
              "--out", "sae1"});
  EXPECT_TRUE(fs::exists(home("sae1/sae_weights.safetensors")));
  Ok("vera", {"export", "whole", "--trial", "0000", "--out", "sae0"});
  Ok("vera", {"sweep", "export", "whole", "--best", "--out", "sae2"});
  const auto same = sae::RealEnv().Read(home("sae/sae_weights.safetensors"));
  EXPECT_EQ(same.value_or("a"),
            sae::RealEnv().Read(home("sae2/sae_weights.safetensors")).value_or("b"));

  Ok("vera", {"import", "--format", "saelens", "--in", "sae", "--out", "imported"});
  const auto encode = [&](const std::string& sae) {
    return Ok("vera", {"encode", "--sae", sae, "--store", world().store(), "--split", "heldout",
                       "--out", sae + ".codes", "-o", "json"})
        .json();
  };
  const json codes = encode("sae");
  EXPECT_GT(codes.at("rows"), 0);
  EXPECT_EQ(codes.at("latents"), 256);
  EXPECT_EQ(encode("imported").at("nonzeros"), codes.at("nonzeros"));
  Ok("vera", {"store", "verify", world().store()});
}

}  // namespace
}  // namespace saeloom::e2e
