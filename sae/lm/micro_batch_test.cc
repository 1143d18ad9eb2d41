#include "sae/lm/micro_batch.h"

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

TEST(MicroBatch, WholeSpansUpToTheTargetLongestFirst) {
  TokenBatch batch;
  for (const int length : {3, 4, 20, 1, 2}) {
    batch.StartSpan();
    batch.tokens.resize(batch.tokens.size() + static_cast<std::size_t>(length));
  }
  const auto pieces = CutMicroBatches(batch, 8);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[0].first_token, 7);
  EXPECT_EQ(pieces[0].begins, (std::vector<std::int64_t>{0, 20}));
  EXPECT_EQ(pieces[1].first_token, 0);
  EXPECT_EQ(pieces[1].begins, (std::vector<std::int64_t>{0, 3, 7}));
  EXPECT_EQ(pieces[2].first_token, 27);
  EXPECT_EQ(pieces[2].begins, (std::vector<std::int64_t>{0, 1, 3}));
}

}  // namespace
}  // namespace sae::lm
