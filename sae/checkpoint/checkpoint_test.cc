#include "sae/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>
#include <mutex>

#include "sae/checkpoint/test_state.h"
#include "tests/support/temp_dir.h"

namespace sae::checkpoint {
namespace {
using testing::TempDir;

void Save(const std::string& directory, std::int64_t n, int ranks, std::int64_t step) {
  const absl::Status status = comm::RunInProcess(ranks, [&](comm::Communicator& c) -> absl::Status {
    TestState state(n, 5, c.rank(), ranks, step);
    return SaveCheckpoint(RealEnv(), c, directory, state.View(), state.MakeInfo()).status();
  });
  ASSERT_TRUE(status.ok()) << status;
}

absl::Status LoadAndCompare(const std::string& directory, std::int64_t n, int ranks, std::int64_t step) {
  return comm::RunInProcess(ranks, [&](comm::Communicator& c) -> absl::Status {
    TestState state(n, 5, c.rank(), ranks, 0, false);
    SAE_ASSIGN_OR_RETURN(const Latest latest, FindLatest(RealEnv(), c, directory));
    SAE_RETURN_IF_ERROR(
        LoadCheckpoint(RealEnv(), c, directory + "/" + latest.name, latest.manifest, state.View()));
    if (!(state == TestState(n, 5, c.rank(), ranks, step))) return absl::InternalError("another state came back");
    if (latest.manifest.info.data_position != step * 8 + 1) return absl::InternalError("another data position");
    return absl::OkStatus();
  });
}

void FlipByte(const std::string& path, std::int64_t at) {
  std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
  ASSERT_TRUE(f) << path;
  f.seekg(at);
  const char c = static_cast<char>(f.get() ^ 1);
  f.seekp(at);
  f.put(c);
}

TEST(Checkpoint, NamesAreStepsAndNothingElse) {
  EXPECT_EQ(StepName(1234), "step-000000001234");
  EXPECT_EQ(StepOf("step-000000001234"), 1234);
  EXPECT_EQ(StepOf(".tmp-step-000000001234"), std::nullopt);
  EXPECT_EQ(StepOf("step-12"), std::nullopt);
  EXPECT_EQ(StepOf("step-00000000123x"), std::nullopt);
}

TEST(Checkpoint, BlocksDependOnTheDictionaryAlone) {
  EXPECT_EQ(BlockLatents(2048), 256);
  EXPECT_EQ(BlockLatents(1 << 20), 4096);
  EXPECT_EQ(BlockLatents(1 << 24), 16384);
  EXPECT_EQ(BlockLatents(3), 1);
}

TEST(Checkpoint, AnyWorldSizeLoadsWhatAnyOtherSaved) {
  for (const std::int64_t n : {24, 36, 5 * 12}) {
    for (const int saved : {1, 2, 3, 4}) {
      TempDir dir;
      Save(dir.path(), n, saved, 7);
      for (const int loaded : {1, 2, 3, 4, 6, 12}) {
        const absl::Status status = LoadAndCompare(dir.path(), n, loaded, 7);
        EXPECT_TRUE(status.ok()) << "n " << n << ", saved at " << saved << ", loaded at " << loaded << ": " << status;
      }
    }
  }
}

TEST(Checkpoint, BytesDoNotDependOnTheWorldSize) {
  TempDir one, three;
  Save(one.path(), 24, 1, 7);
  Save(three.path(), 24, 3, 7);
  const std::vector<std::string> names = RealEnv().List(one / StepName(7)).value();
  EXPECT_EQ(names.size(), 10U);
  for (const std::string& name : names) {
    if (name == "manifest.json") continue;
    EXPECT_EQ(RealEnv().Read(one / StepName(7) + "/" + name).value(),
              RealEnv().Read(three / StepName(7) + "/" + name).value());
  }
}

TEST(Checkpoint, TheLatestTwoAreKept) {
  TempDir dir;
  for (const std::int64_t step : {1, 2, 3, 4}) Save(dir.path(), 24, 2, step);
  EXPECT_EQ(RealEnv().List(dir.path()).value(), (std::vector<std::string>{StepName(3), StepName(4)}));
}

TEST(Checkpoint, SavingTheSameStepAgainChangesNothing) {
  TempDir dir;
  Save(dir.path(), 24, 2, 3);
  const std::string before = RealEnv().Read(dir / StepName(3) + "/manifest.json").value();
  Save(dir.path(), 24, 1, 3);
  EXPECT_EQ(RealEnv().Read(dir / StepName(3) + "/manifest.json").value(), before);
}

TEST(Checkpoint, AFlippedByteInAnyFileMeansThePreviousOne) {
  for (const char* file : {"manifest.json", "replicated.safetensors", "latents-00000.safetensors",
                           "latents-00007.safetensors"}) {
    TempDir dir;
    Save(dir.path(), 24, 2, 1);
    Save(dir.path(), 24, 2, 2);
    FlipByte(dir / StepName(2) + "/" + file, 100);
    EXPECT_TRUE(LoadAndCompare(dir.path(), 24, 2, 1).ok()) << file;
    const auto self = comm::CreateSelf();
    const Latest latest = FindLatest(RealEnv(), *self, dir.path()).value();
    ASSERT_EQ(latest.warnings.size(), 1U);
    EXPECT_NE(latest.warnings[0].find(file), std::string::npos) << latest.warnings[0];
    ASSERT_TRUE(CleanUp(RealEnv(), dir.path(), latest.damaged).ok());
    EXPECT_TRUE(RealEnv().Exists(dir / "damaged-" + StepName(2)));
    Save(dir.path(), 24, 2, 2);
    EXPECT_TRUE(LoadAndCompare(dir.path(), 24, 2, 2).ok());
  }
}

TEST(Checkpoint, ATruncatedFileMeansThePreviousOne) {
  TempDir dir;
  Save(dir.path(), 24, 2, 1);
  Save(dir.path(), 24, 2, 2);
  const std::string path = dir / StepName(2) + "/latents-00003.safetensors";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_TRUE(LoadAndCompare(dir.path(), 24, 2, 1).ok());
}

TEST(Checkpoint, NoneInAnEmptyOrAbsentDirectory) {
  TempDir dir;
  const auto self = comm::CreateSelf();
  EXPECT_EQ(FindLatest(RealEnv(), *self, dir.path())->name, "");
  EXPECT_EQ(FindLatest(RealEnv(), *self, dir / "absent")->name, "");
}

TEST(Checkpoint, AStateThatDoesNotFitIsRefusedWithItsReasonAndUnchanged) {
  TempDir dir;
  Save(dir.path(), 24, 1, 3);
  const auto self = comm::CreateSelf();
  const Latest latest = FindLatest(RealEnv(), *self, dir.path()).value();
  const auto load = [&](const model::State& view) {
    return LoadCheckpoint(RealEnv(), *self, dir / latest.name, latest.manifest, view);
  };
  TestState larger(48, 5, 0, 1, 0, false);
  EXPECT_NE(Message(load(larger.View())).find("it has 24 latents, the run has 48"), std::string::npos);
  TestState wider(24, 6, 0, 1, 0, false);
  const absl::Status width = load(wider.View());
  EXPECT_EQ(width.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(width).find("W_enc has shape [24, 5], the run needs [24, 6]"), std::string::npos) << width;
  EXPECT_TRUE(wider == TestState(24, 6, 0, 1, 0, false));
  TestState same(24, 5, 0, 1, 0, false);
  model::State fewer = same.View();
  fewer.tensors.pop_back();
  EXPECT_NE(Message(load(fewer)).find("holds tensor b_dec"), std::string::npos);
  model::State scalars = same.View();
  scalars.scalars[0].name = "other";
  EXPECT_NE(Message(load(scalars)).find("no scalar other"), std::string::npos);
}

TEST(Checkpoint, WholeTensorsAreReadForExport) {
  TempDir dir;
  Save(dir.path(), 24, 3, 3);
  const Manifest manifest = ReadManifest(RealEnv(), dir / StepName(3)).value();
  EXPECT_EQ(ReadTensor(dir / StepName(3), manifest, "W_enc").value(), TestState(24, 5, 0, 1, 3).encoder);
  EXPECT_EQ(ReadTensor(dir / StepName(3), manifest, "b_dec")->at(1), 3.5F);
  EXPECT_NE(Message(ReadTensor(dir / StepName(3), manifest, "W_x").status()).find("W_enc, tokens_since_fired, b_dec"),
            std::string::npos);
}

TEST(Checkpoint, OneRanksFailureIsEveryRanksError) {
  TempDir dir;
  std::mutex mu;
  std::vector<absl::Status> seen;
  std::ofstream(dir / "file") << "not a directory";
  const absl::Status status = comm::RunInProcess(3, [&](comm::Communicator& c) -> absl::Status {
    TestState state(24, 5, c.rank(), 3, 1);
    const absl::Status s = SaveCheckpoint(RealEnv(), c, dir / "file", state.View(), state.MakeInfo()).status();
    const std::lock_guard<std::mutex> lock(mu);
    seen.push_back(s);
    return absl::OkStatus();
  });
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(seen.size(), 3U);
  for (const absl::Status& s : seen) {
    EXPECT_FALSE(s.ok());
    EXPECT_EQ(s, seen[0]);
  }
}

}  // namespace
}  // namespace sae::checkpoint
