#include "sae/lm/packing.h"

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

using Ids = std::vector<std::int32_t>;
using Begins = std::vector<std::int64_t>;

TEST(Packing, MaskCutsLongDocumentsAndStartsASpanForEach) {
  Packer packer(Packing::kMask, 4, 99);
  PackedBatch out;
  packer.Add(7, Ids{1, 2, 3, 4, 5, 6}, out);
  packer.Add(8, Ids{}, out);
  packer.Add(9, Ids{10, 11}, out);
  EXPECT_EQ(out.batch.tokens, (Ids{1, 2, 3, 4, 5, 6, 10, 11}));
  EXPECT_EQ(out.batch.span_begins, (Begins{0, 4, 6}));
  EXPECT_EQ(out.positions, (Ids{0, 1, 2, 3, 4, 5, 0, 1}));
  EXPECT_EQ(out.documents, (Ids{7, 7, 7, 7, 7, 7, 9, 9}));
  EXPECT_TRUE(packer.AtBoundary());
}

TEST(Packing, ConcatIsOneStreamWithSeparators) {
  Packer packer(Packing::kConcat, 4, 99);
  PackedBatch out;
  packer.Add(0, Ids{1, 2}, out);
  EXPECT_FALSE(packer.AtBoundary());
  packer.Add(1, Ids{3, 4, 5}, out);
  EXPECT_EQ(out.batch.tokens, (Ids{1, 2, 99, 3, 4, 5, 99}));
  EXPECT_EQ(out.batch.span_begins, (Begins{0, 4}));
  EXPECT_EQ(out.positions, (Ids{0, 1, -1, 0, 1, 2, -1}));
  EXPECT_EQ(packer.filled(), 3);
  PackedBatch tail = TakeTail(out, packer.filled());
  EXPECT_EQ(out.batch.tokens, (Ids{1, 2, 99, 3}));
  EXPECT_EQ(out.batch.span_begins, (Begins{0}));
  EXPECT_EQ(tail.batch.tokens, (Ids{4, 5, 99}));
  EXPECT_EQ(tail.documents, (Ids{1, 1, 1}));
  packer.Add(2, Ids{6, 7}, tail);
  EXPECT_EQ(tail.batch.tokens, (Ids{4, 5, 99, 6, 7, 99}));
  EXPECT_EQ(tail.batch.span_begins, (Begins{0, 4}));
}

TEST(Packing, NoneGivesTheRowsOfMask) {
  PackedBatch mask;
  PackedBatch none;
  Packer(Packing::kMask, 4, 99).Add(0, Ids{1, 2, 3, 4, 5}, mask);
  Packer(Packing::kNone, 4, 99).Add(0, Ids{1, 2, 3, 4, 5}, none);
  EXPECT_EQ(mask.batch.span_begins, none.batch.span_begins);
  EXPECT_EQ(mask.batch.tokens, none.batch.tokens);
}

TEST(Packing, Names) {
  for (const char* name : {"mask", "concat", "none"})
    EXPECT_EQ(PackingName(*ParsePacking(name)), name);
  EXPECT_EQ(ParsePacking("pad").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sae::lm
