// A trial of a gang is the trial that runs alone: bit for bit, whatever the others are and whatever becomes of them.
#include "sae/train/run_gang.h"

#include <gtest/gtest.h>

#include "sae/train/gang.h"
#include "sae/train/run_gang_testing.h"
#include "tests/support/fault_env.h"

namespace sae::train {
namespace {
using config::EventKind;
using testing::GangRig;
using testing::RunVariant;
using Configs = std::vector<config::RunConfig>;

/// What the others are to be like.
RunVariant TopK(const char* name, std::int64_t k) {
  return {name, [k](auto& c) {
            c.sae.k = k;
            c.sae.aux_k = 8;
          }};
}

::testing::AssertionResult All(const std::vector<absl::StatusOr<Outcome>>& outcomes, Outcome wanted) {
  for (const auto& o : outcomes) {
    if (!o.ok()) return ::testing::AssertionFailure() << o.status();
    if (*o != wanted) return ::testing::AssertionFailure() << "outcome " << static_cast<int>(*o);
  }
  return ::testing::AssertionSuccess();
}

class AtRanks : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(RunGang, AtRanks, ::testing::Values(1, 2));

/// One gang of them all, against each alone.
void ExpectEachAsAlone(const std::vector<RunVariant>& variants, int ranks) {
  const GangRig rig(ranks);
  Configs gang;
  std::int64_t seed = 0;
  for (const RunVariant& v : variants) {
    gang.push_back(rig.Config(v, absl::StrCat("gang/", v.name), 24));
    gang.back().trial.train.seed = ++seed;
    gang.back().trial.train.lr = 1e-3 * static_cast<double>(seed);
  }
  ASSERT_TRUE(All(rig.Run(gang), Outcome::kFinished));
  for (std::size_t at = 0; at < variants.size(); ++at) {
    SCOPED_TRACE(variants[at].name);
    config::RunConfig alone = gang[at];
    rig.Place(absl::StrCat("alone/", variants[at].name), 1, &alone);
    ASSERT_EQ(rig.RunAlone(alone).value(), Outcome::kFinished);
    testing::ExpectSameRun(alone, gang[at]);
  }
}

TEST_P(AtRanks, EveryArchitectureAndOptionInOneGangIsAsAlone) {
  std::vector<RunVariant> variants;
  for (const RunVariant& v : testing::AllVariants()) {
    config::TrialConfig c;
    v.set(c);
    if (!c.sae.transcoder) variants.push_back(v);
  }
  ASSERT_GE(variants.size(), 20U);
  ExpectEachAsAlone(variants, GetParam());
}

TEST_P(AtRanks, TranscodersAreAsAlone) {
  const auto transcoder = [](const char* architecture, bool skip) {
    return testing::Ranked(architecture, 8, [=](auto& c) {
      c.sae.transcoder = true;
      c.sae.skip = skip;
    });
  };
  ExpectEachAsAlone({{"topk", transcoder("topk", false)},
                     {"skip", transcoder("topk", true)},
                     {"batchtopk", transcoder("batchtopk", true)}},
                    GetParam());
}

TEST_P(AtRanks, DictionariesOfOtherSizesAndLengthsShareAStream) {
  const GangRig rig(GetParam());
  Configs gang;
  for (const auto& [name, latents, steps] :
       {std::tuple{"a", 64, 30}, {"b", 1200, 12}, {"c", 96, 21}, {"d", 64, 1}}) {
    config::RunConfig c = rig.Config(TopK(name, 4), absl::StrCat("gang/", name), steps);
    c.trial.sae.latents = latents;
    gang.push_back(c);
  }
  ASSERT_TRUE(All(rig.Run(gang), Outcome::kFinished));
  for (const config::RunConfig& c : gang) {
    config::RunConfig alone = c;
    rig.Place("alone/" + c.run.trial, 1, &alone);
    ASSERT_TRUE(rig.RunAlone(alone).ok());
    testing::ExpectSameRun(alone, c);
  }
}

TEST_P(AtRanks, WhatIsInterruptedGoesOnAloneOrInAGang) {
  const GangRig rig(GetParam());
  Configs gang, straight;
  for (const char* name : {"a", "b", "c", "d"}) {
    gang.push_back(rig.Config(TopK(name, 4), absl::StrCat("gang/", name), 30));
    straight.push_back(gang.back());
    rig.Place(absl::StrCat("straight/", name), 1, &straight.back());
    ASSERT_TRUE(rig.RunAlone(straight.back()).ok());
  }
  // Each leaves at a step of its own; d does not.
  const auto outcomes = rig.Run(gang, [](std::size_t trial, std::int64_t asked) {
    return trial < 3 && asked == static_cast<std::int64_t>(5 + 6 * trial) ? StopReason::kPreempt : StopReason::kNone;
  });
  for (std::size_t at = 0; at < 4; ++at)
    EXPECT_EQ(outcomes[at].value(), at < 3 ? Outcome::kYielded : Outcome::kFinished);
  const Configs first = gang;
  for (std::size_t at = 0; at < 3; ++at) rig.Place(absl::StrCat("gang/", gang[at].run.trial), 2, &gang[at]);
  ASSERT_EQ(rig.RunAlone(gang[0]).value(), Outcome::kFinished);
  ASSERT_TRUE(All(rig.Run({gang[1], gang[2]}), Outcome::kFinished));
  EXPECT_EQ(ReadEvents(gang[1].run.directory + "/events.jsonl").front().from_step, 11);
  EXPECT_EQ(ReadEvents(gang[2].run.directory + "/events.jsonl").front().from_step, 17);
  for (std::size_t at = 0; at < 4; ++at) {
    SCOPED_TRACE(gang[at].run.trial);
    testing::ExpectSameRun(straight[at], {straight[at].run.directory}, gang[at],
                           {first[at].run.directory, gang[at].run.directory});
  }
}

TEST_P(AtRanks, ATrialThatFailsLeavesTheOthersAlone) {
  const GangRig rig(GetParam());
  Configs gang;
  for (const char* name : {"good", "diverges", "disk", "foreign", "last"})
    gang.push_back(rig.Config(TopK(name, 4), absl::StrCat("gang/", name), 24));
  gang[1].trial.train.lr = 1e30;
  gang[3].trial.sae.latents = 32;  // goes on from a checkpoint of 64
  config::RunConfig other = rig.Config(TopK("foreign", 4), "gang/foreign", 24);
  rig.Place("gang/foreign", 2, &other);
  ASSERT_TRUE(rig.RunAlone(other).ok());
  ::sae::testing::FaultEnv disk(RealEnv());
  disk.FailFrom(6);
  const auto outcomes =
      rig.Run(gang, nullptr, [&](std::size_t trial) { return trial == 2 ? &disk : nullptr; });
  EXPECT_EQ(outcomes[0].value(), Outcome::kFinished);
  EXPECT_EQ(outcomes[1].status().code(), absl::StatusCode::kFailedPrecondition) << outcomes[1].status();
  EXPECT_FALSE(outcomes[2].ok());
  EXPECT_EQ(outcomes[3].status().code(), absl::StatusCode::kInvalidArgument) << outcomes[3].status();
  EXPECT_EQ(outcomes[4].value(), Outcome::kFinished);
  for (const std::size_t at : {0U, 4U}) {
    config::RunConfig alone = gang[at];
    rig.Place("alone/" + alone.run.trial, 1, &alone);
    ASSERT_TRUE(rig.RunAlone(alone).ok());
    testing::ExpectSameRun(alone, gang[at]);
  }
}

TEST(RunGang, ReadsAndRoundsOnceForAll) {
  ThreadPool pool(2);
  CountedSource source(4);
  std::int64_t heldout_reads = 0;
  Gang::Options options;
  options.trials = 3;
  options.pool = &pool;
  options.source = &source;
  options.read_heldout = [&](std::int64_t first, std::span<float> rows) {
    ++heldout_reads;
    std::fill(rows.begin(), rows.end(), static_cast<float>(first));
    return absl::OkStatus();
  };
  Gang gang(std::move(options));
  std::vector<std::vector<float>> seen(3);
  gang.Run([&](int trial) {
    auto& own = seen[static_cast<std::size_t>(trial)];
    std::vector<float> room;
    for (int step = 0; step < 5 - trial; ++step) {  // the later ones end sooner
      const auto rows = gang.source(trial).View(8, &room);
      ASSERT_TRUE(rows.ok());
      own.insert(own.end(), rows->begin(), rows->end());
      std::vector<float> heldout(8);
      if (step == 1) {
        ASSERT_TRUE(gang.ReadHeldout(trial, 3, heldout).ok());
        EXPECT_EQ(heldout, std::vector<float>(8, 3.F));
      }
    }
    EXPECT_EQ(gang.source(trial).Position(), 8 * (5 - trial));
  });
  EXPECT_EQ(gang.counts().batches, 5);
  EXPECT_EQ(heldout_reads, 1);
  CountedSource again(4);
  std::vector<float> whole(5 * 8 * 4);
  ASSERT_TRUE(again.Next(whole).ok());
  for (std::size_t trial = 0; trial < 3; ++trial)
    EXPECT_TRUE(std::equal(seen[trial].begin(), seen[trial].end(), whole.begin())) << trial;
}

TEST(RunGang, EncodersPassOverEachGroupOfTokensTogetherInTheirOwnOrder) {
  ThreadPool pool(2);
  Gang::Options options;
  options.trials = 3;
  options.pool = &pool;
  Gang gang(std::move(options));
  Mutex mu;
  std::vector<std::vector<std::string>> seen(2);  // of each worker
  gang.Run([&](int trial) {
    for (int pass = 0; pass < (trial == 2 ? 1 : 2); ++pass) {
      const auto body = [&](std::int64_t begin, std::int64_t end, int worker) {
        MutexLock lock(mu);
        seen[static_cast<std::size_t>(worker)].push_back(absl::StrCat(trial, ":", begin, "-", end));
      };
      static_cast<kernels::BlockMeeting&>(gang).Run({trial == 1 ? 3 : 10, trial == 1 ? 1 : 4, body}, pool);
    }
  });
  EXPECT_EQ(gang.counts().passes, 2);
  EXPECT_EQ(gang.counts().encoders, 5);
  EXPECT_EQ(seen[0], (std::vector<std::string>{"0:0-4", "1:0-1", "2:0-4", "0:4-5", "2:4-5",  //
                                               "0:0-4", "1:0-1", "0:4-5"}));
  EXPECT_EQ(seen[1], (std::vector<std::string>{"0:5-9", "1:1-2", "2:5-9", "0:9-10", "1:2-3", "2:9-10",  //
                                               "0:5-9", "1:1-2", "0:9-10", "1:2-3"}));
}

TEST(RunGang, AReadThatFailsIsToldToAllWhoAsked) {
  ThreadPool pool(1);
  CountedSource source(4);
  source.fail_at = 8;
  Gang::Options options;
  options.trials = 2;
  options.pool = &pool;
  options.source = &source;
  Gang gang(std::move(options));
  gang.Run([&](int trial) {
    std::vector<float> room;
    EXPECT_TRUE(gang.source(trial).View(8, &room).ok());
    EXPECT_EQ(gang.source(trial).View(8, &room).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(gang.source(trial).Position(), 8);
  });
}

TEST(RunGang, SaysWhichTrialsCannotShareAndWhy) {
  const GangRig rig(1);
  const config::RunConfig a = rig.Config(TopK("a", 4), "a", 4);
  config::RunConfig b = rig.Config(TopK("b", 4), "b", 4);
  EXPECT_TRUE(CheckGang(Configs{a, b}).ok());
  b.trial.train.lr = 1;
  b.trial.train.tokens *= 2;
  b.trial.train.seed = 3;
  b.trial.sae.latents = 128;
  b.trial.sae.architecture = "gated";
  EXPECT_TRUE(CheckGang(Configs{a, b}).ok());
  b.trial.train.batch = 64;
  b.trial.train.data_seed = 1;
  EXPECT_EQ(Message(CheckGang(Configs{a, b})),
            "these trials cannot share a stream: trial b: trial.train.data_seed is \"1\", that of trial a \"0\"; "
            "trial b: trial.train.batch is \"64\", that of trial a \"32\": run them apart");
  EXPECT_NE(Message(CheckGang(Configs{a, a})).find("are another trial's"), std::string::npos);
  EXPECT_EQ(CheckGang({}).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sae::train
