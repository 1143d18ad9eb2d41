// A checkpoint that MPI processes write together goes on at one rank, and at two, to the same bits.
#include "gtest/gtest.h"
#include <mpi.h>

#include "sae/checkpoint/agree.h"
#include "sae/train/engine/engine_checkpoint_testing.h"
#include "tests/support/temp_dir.h"

namespace sae::train {
namespace {

using testing::CheckpointRun;

// The rows of `shard` are the same in both.
void ExpectSameRows(const CheckpointRun& a, const CheckpointRun& b,
                    const model::LatentShard& shard) {
  EXPECT_EQ(a.selection, b.selection);
  EXPECT_EQ(a.end.integers, b.end.integers);
  EXPECT_EQ(a.end.doubles, b.end.doubles);
  for (const auto& [name, bytes] : a.end.tensors) {
    const std::vector<char>& other = b.end.tensors.at(name);
    ASSERT_EQ(bytes.size(), other.size());
    if (name.starts_with("b_dec")) {
      EXPECT_TRUE(bytes == other) << name;
      continue;
    }
    const std::size_t row = bytes.size() / testing::kRunLatents;
    for (std::int64_t i = 0; i < shard.count; ++i) {
      const std::size_t at = static_cast<std::size_t>(shard.Global(i)) * row;
      EXPECT_EQ(std::memcmp(bytes.data() + at, other.data() + at, row), 0) << name << " " << i;
    }
  }
}

// Properties 12 and 16.
TEST(EngineCheckpointMpi, GoesOnAtAnotherNumberOfRanks) {
  auto world = comm::CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok()) << world.status();
  comm::Communicator& all = **world;
  const model::LatentShard shard = model::ShardOf(testing::kRunLatents, all.size(), all.rank());
  const auto self = comm::CreateSelf();
  auto pair = all.Split(all.rank() / 2, all.rank());
  ASSERT_TRUE(pair.ok()) << pair.status();
  const model::LatentShard half =
      model::ShardOf(testing::kRunLatents, (*pair)->size(), (*pair)->rank());
  for (const testing::RunVariant& variant :
       {testing::RunVariant{"topk_aux", testing::Ranked("topk", 8)},
        testing::RunVariant{"batchtopk_aux", testing::Ranked("batchtopk", 8)},
        testing::RunVariant{"gated", testing::Penalised("gated")}}) {
    SCOPED_TRACE(variant.name);
    const sae::testing::TempDir dir;
    std::string folder = dir.path();
    ASSERT_TRUE(checkpoint::BroadcastText(all, folder).ok());
    const auto whole = testing::RunOverCheckpoint(variant, "fixed", all, folder, true);
    ASSERT_TRUE(whole.ok()) << whole.status();
    const auto alone = testing::RunOverCheckpoint(variant, "fixed", *self, folder, false);
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSameRows(*alone, *whole, shard);
    const auto two = testing::RunOverCheckpoint(variant, "fixed", **pair, folder, false);
    ASSERT_TRUE(two.ok()) << two.status();
    ExpectSameRows(*alone, *two, half);
    ASSERT_TRUE(all.Barrier().ok());  // before the folder goes
  }
}

}  // namespace
}  // namespace sae::train

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  ::testing::InitGoogleTest(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  MPI_Finalize();
  return failed;
}
