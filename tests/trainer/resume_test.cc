// With the real engine and a real store, ranks as threads: a resumed run is the uninterrupted one, bit for bit
// at the same number of ranks.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "sae/base/clock.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/train/run_trial.h"
#include "tests/support/fault_env.h"
#include "tests/trainer/trial_rig.h"

namespace sae::train {
namespace {
using testing::TrialRig;

/// Runs until `stop_at` (or to the end) with checkpoints and events in `folder`.
absl::Status RunUntil(TrialRig& rig, int ranks, const std::string& folder, std::int64_t stop_at,
                      Env& env = RealEnv()) {
  spdlog::set_level(spdlog::level::err);
  rig.config.trial.ranks = ranks;
  rig.config.run.directory = folder;
  rig.config.run.checkpoints = "checkpoints";
  SAE_RETURN_IF_ERROR(RealEnv().MakeDirectories(folder));
  return comm::RunInProcess(ranks, [&](comm::Communicator& c) -> absl::Status {
    std::unique_ptr<EventWriter> events;
    if (c.rank() == 0) {
      SAE_ASSIGN_OR_RETURN(events, EventWriter::Open(RealEnv(), RealClock(), folder + "/events.jsonl"));
    }
    RunTrialParts parts;
    parts.env = &env;
    parts.clock = &RealClock();
    parts.communicator = &c;
    parts.events = events.get();
    parts.progress = [] {};
    std::int64_t turns = 0;
    parts.stop_requested = [&] { return turns++ == stop_at ? StopReason::kPreempt : StopReason::kNone; };
    return RunTrial(rig.config, parts).status();
  });
}

checkpoint::Manifest Last(const std::string& folder) {
  const auto self = comm::CreateSelf();
  const auto latest = checkpoint::FindLatest(RealEnv(), *self, folder + "/checkpoints");
  EXPECT_TRUE(latest.ok() && !latest->name.empty()) << latest.status();
  return latest->manifest;
}

void ExpectSameBits(const checkpoint::Manifest& a, const checkpoint::Manifest& b) {
  ASSERT_EQ(a.files.size(), b.files.size());
  for (std::size_t i = 0; i < a.files.size(); ++i) {
    EXPECT_EQ(a.files[i].name, b.files[i].name);
    EXPECT_EQ(a.files[i].hash, b.files[i].hash) << a.files[i].name;
  }
  EXPECT_EQ(a.scalars, b.scalars);
  EXPECT_EQ(a.info.data_position, b.info.data_position);
}

struct Case {
  const char* name;
  const char* architecture;
  int ranks;
};

class ResumeBitwise : public ::testing::TestWithParam<Case> {};

TEST_P(ResumeBitwise, SixtyStepsAreThirtyAndThirtyBitForBit) {
  TrialRig rig(1500);  // 60 batches of 64 go through the store more than twice
  rig.config.trial.train.tokens = 60 * 64;
  rig.config.trial.sae.architecture = GetParam().architecture;
  if (rig.config.trial.sae.architecture == "relu_l1") {
    rig.config.trial.sae.k = 0;
    rig.config.trial.sae.l1_coefficient = 0.01;
  } else {
    rig.config.trial.sae.dead_after_tokens = 640;  // so that AuxK has work to do
  }
  ASSERT_TRUE(RunUntil(rig, GetParam().ranks, rig.folder() + "/whole", -1).ok());
  ASSERT_TRUE(RunUntil(rig, GetParam().ranks, rig.folder() + "/parts", 30).ok());
  const checkpoint::Manifest half = Last(rig.folder() + "/parts");
  EXPECT_EQ(half.info.step, 30);
  EXPECT_EQ(half.info.data_position, 30 * 64);
  ASSERT_TRUE(RunUntil(rig, GetParam().ranks, rig.folder() + "/parts", -1).ok());
  const checkpoint::Manifest whole = Last(rig.folder() + "/whole");
  EXPECT_EQ(whole.info.step, 60);
  ExpectSameBits(whole, Last(rig.folder() + "/parts"));
}

INSTANTIATE_TEST_SUITE_P(All, ResumeBitwise,
                         ::testing::Values(Case{"TopK1", "topk", 1}, Case{"TopK2", "topk", 2},
                                           Case{"Relu1", "relu_l1", 1}, Case{"Relu2", "relu_l1", 2}),
                         [](const auto& p) { return p.param.name; });

TEST(RunTrial, WithoutRoomForCheckpointsItDoesNotBegin) {
  TrialRig rig(500);
  testing::FaultEnv env(RealEnv());
  env.set_free_bytes(1000);
  const absl::Status status = RunUntil(rig, 2, rig.folder() + "/run", -1, env);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(Message(status).find(rig.folder() + "/run/checkpoints"), std::string::npos) << status;
  EXPECT_FALSE(RealEnv().Exists(rig.folder() + "/run/checkpoints"));
}

TEST(ResumeAtAnotherSize, AgreesWithTheUninterruptedRunWithinTolerance) {
  TrialRig rig(1500);
  rig.config.trial.train.tokens = 60 * 64;
  ASSERT_TRUE(RunUntil(rig, 1, rig.folder() + "/whole", -1).ok());
  ASSERT_TRUE(RunUntil(rig, 1, rig.folder() + "/parts", 30).ok());
  ASSERT_TRUE(RunUntil(rig, 2, rig.folder() + "/parts", -1).ok());
  const auto loss = [&](const std::string& name) {
    double value = 0;
    const std::string text = RealEnv().Read(rig.folder() + "/" + name + "/events.jsonl").value();
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const config::Event e = config::ParseEvent(text.substr(begin, end - begin)).value();
      if (e.kind == config::EventKind::kEvaluation && e.step == 60) value = e.values.at("heldout.loss");
    }
    return value;
  };
  EXPECT_GT(loss("whole"), 0);
  EXPECT_NEAR(loss("parts") / loss("whole"), 1.0, 1e-4);
}

}  // namespace
}  // namespace sae::train
