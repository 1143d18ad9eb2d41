// A checkpoint of four ranks goes on at one, two and eight: bit for bit with `reduction: fixed`,
// with the same first selection otherwise.
#include "gtest/gtest.h"

#include "sae/train/engine/engine_checkpoint_testing.h"
#include "tests/support/temp_dir.h"

namespace sae::train {
namespace {

using testing::CheckpointRun;
using testing::RunVariant;
using testing::SavedState;

// All ranks' parts as one state.
CheckpointRun RunAll(const RunVariant& variant, const char* reduction, int ranks,
                  const std::string& folder, bool save) {
  CheckpointRun out;
  Mutex mutex;
  const absl::Status status = comm::RunInProcess(ranks, [&](comm::Communicator& c) {
    SAE_ASSIGN_OR_RETURN(auto mine,
                         testing::RunOverCheckpoint(variant, reduction, c, folder, save));
    const model::LatentShard shard = model::ShardOf(testing::kRunLatents, ranks, c.rank());
    MutexLock lock(mutex);
    if (out.end.tensors.empty()) {
      out = std::move(mine);
      return absl::OkStatus();
    }
    for (const auto& [name, bytes] : mine.end.tensors) {
      if (name.starts_with("b_dec") || name.starts_with("W_skip")) continue;
      const std::size_t row = bytes.size() / testing::kRunLatents;
      for (std::int64_t i = 0; i < shard.count; ++i) {
        const auto at = static_cast<std::size_t>(shard.Global(i)) * row;
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), row,
                    out.end.tensors.at(name).begin() + static_cast<std::ptrdiff_t>(at));
      }
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << variant.name << ": " << status;
  return out;
}

class EngineCheckpoint : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineCheckpoint, ::testing::ValuesIn(testing::Float32Variants()),
                         testing::NameOf);

// Properties 12 and 16.
TEST_P(EngineCheckpoint, OfFourRanksGoesOnBitForBitAtOneTwoAndEight) {
  const sae::testing::TempDir dir;
  const CheckpointRun four = RunAll(GetParam(), "fixed", 4, dir.path(), true);
  for (const int ranks : {1, 2, 8}) {
    SCOPED_TRACE(ranks);
    const CheckpointRun other = RunAll(GetParam(), "fixed", ranks, dir.path(), false);
    testing::ExpectSameBits(four.end, other.end);
    EXPECT_EQ(four.selection, other.selection);
  }
}

// Property 12.
TEST_P(EngineCheckpoint, OfFourRanksSelectsTheSameFirst) {
  const sae::testing::TempDir dir;
  const CheckpointRun four = RunAll(GetParam(), "fast", 4, dir.path(), true);
  for (const int ranks : {1, 2, 8}) {
    const CheckpointRun other = RunAll(GetParam(), "fast", ranks, dir.path(), false);
    EXPECT_EQ(four.selection, other.selection) << ranks;
  }
}

}  // namespace
}  // namespace sae::train
