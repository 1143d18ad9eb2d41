// The exact selections over MPI processes against one plain answer.
#include "gtest/gtest.h"
#include <mpi.h>

#include "sae/train/engine/selection_testing.h"

namespace sae::train {
namespace {

// Properties 13 and 29.
TEST(SelectionMpi, IsThatOfOneProcess) {
  auto world = comm::CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok()) << world.status();
  const int ranks = (*world)->size();
  for (const testing::SelectionCase& test : testing::SelectionCases()) {
    for (const int node : {0, 2}) {
      SCOPED_TRACE(::testing::Message() << test.name << ", nodes of " << node);
      testing::TopKRequest request;
      request.node = node < ranks ? node : 0;
      request.narrow = 7;
      const auto out = testing::RunTopK(**world, test, request);
      ASSERT_TRUE(out.ok()) << out.status();
      EXPECT_EQ(out->difference, "");
      if (test.tied) {
        EXPECT_GT(out->counters.tied_tokens, 0);
      }
      if (test.crowded) {
        EXPECT_GT(out->counters.unsafe_tokens, 0);
      }
      request.allowed = [](std::int64_t i) { return i % 3 == 0 || (i > 40 && i < 90); };
      const auto dead = testing::RunTopK(**world, test, request);
      ASSERT_TRUE(dead.ok()) << dead.status();
      EXPECT_EQ(dead->difference, "");
    }
    const auto batch = testing::RunBatchTopK(**world, test, 5);
    ASSERT_TRUE(batch.ok()) << batch.status();
    EXPECT_EQ(batch->difference, "") << test.name;
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
