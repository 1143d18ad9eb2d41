#include "sae/data/store_source.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <gmock/gmock.h>

#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {

/// 12-byte rows: extents of 8 rows, windows of 3 extents, shards of 50 rows.
constexpr PassOrderOptions kSmall{8 * 12, 3};

class StoreSourceTest : public ScratchTest {
 protected:
  void SetUp() override {
    ScratchTest::SetUp();
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = 3;
    o.dtype = DType::kF32;
    o.shard_bytes = 50 * 12;
    o.heldout_fraction = 0.1;
    ASSERT_TRUE(WriteNumberedStore(o, 230).ok());
    auto store = ActivationStore::Open(directory_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    rows_ = store_->rows(Split::kTraining);
  }
  std::unique_ptr<StoreSource> Source(std::uint64_t seed = 0) {
    return std::make_unique<StoreSource>(store_, seed, kSmall);
  }
  /// The numbers of the next rows, `batch` at a time.
  static std::vector<std::int64_t> Take(StoreSource& source, std::int64_t count,
                                        std::int64_t batch = 16) {
    std::vector<std::int64_t> numbers;
    while (count > 0) {
      std::vector<float> rows(static_cast<std::size_t>(std::min(batch, count) * 3));
      EXPECT_TRUE(source.Next(rows).ok());
      for (std::size_t i = 0; i < rows.size(); i += 3) {
        numbers.push_back(static_cast<std::int64_t>(rows[i]));
        EXPECT_EQ(rows[i + 2], rows[i] + 0.5F);
      }
      count -= batch;
    }
    return numbers;
  }

  std::shared_ptr<const ActivationStore> store_;
  std::int64_t rows_ = 0;
};

TEST_F(StoreSourceTest, PassZeroIsTheWrittenOrderAndEveryPassAPermutation) {
  const auto written = RowNumbers(*store_, Split::kTraining);
  const auto sorted = [](std::vector<std::int64_t> v) {
    std::sort(v.begin(), v.end());
    return v;
  };
  auto source = Source();
  std::set<std::vector<std::int64_t>> passes;
  for (int pass = 0; pass < 5; ++pass) {
    const auto numbers = Take(*source, rows_, rows_);
    if (pass == 0) {
      EXPECT_EQ(numbers, written);
    }
    EXPECT_EQ(sorted(numbers), sorted(written));
    passes.insert(numbers);
  }
  EXPECT_EQ(passes.size(), 5U) << "two passes have the same order";
  EXPECT_EQ(source->Position(), 5 * rows_);
}

TEST_F(StoreSourceTest, OrderDoesNotDependOnTheBatchSize) {
  const auto want = Take(*Source(), 3 * rows_, 1);
  for (const std::int64_t batch : {7, 16, 100, 500}) {
    auto source = Source();
    EXPECT_EQ(Take(*source, 3 * rows_, batch), want) << batch;
  }
}

TEST_F(StoreSourceTest, SeekGivesWhatContinuingWouldHave) {
  const std::int64_t total = 3 * rows_ + 20;
  const auto want = Take(*Source(), total);
  auto moving = Source();
  for (const std::int64_t position :
       {std::int64_t{0}, std::int64_t{1}, rows_ - 1, rows_, rows_ + 30, 2 * rows_ + 23,
        2 * rows_ + 24, 3 * rows_, std::int64_t{5}}) {
    auto fresh = Source();
    for (StoreSource* source : {fresh.get(), moving.get()}) {
      ASSERT_TRUE(source->Seek(position).ok());
      EXPECT_EQ(source->Position(), position);
      const std::int64_t n = std::min<std::int64_t>(60, total - position);
      EXPECT_EQ(Take(*source, n, 9),
                std::vector<std::int64_t>(want.begin() + position, want.begin() + position + n));
    }
  }
  EXPECT_EQ(moving->Seek(-1).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StoreSourceTest, DataSeedChangesLaterPassesOnly) {
  auto a = Source(0), b = Source(1);
  EXPECT_EQ(Take(*a, rows_), Take(*b, rows_));
  EXPECT_NE(Take(*a, rows_), Take(*b, rows_));
}

TEST_F(StoreSourceTest, LaterPassesMoveRowsAcrossTheWholeWindow) {
  // Rows 0..23 of the shuffled sequence come from three extents, and neighbours rarely stay
  // neighbours.
  auto source = Source();
  ASSERT_TRUE(source->Seek(rows_).ok());
  const auto written = RowNumbers(*store_, Split::kTraining);
  std::vector<std::int64_t> place(1000, -1);
  for (std::size_t i = 0; i < written.size(); ++i)
    place[static_cast<std::size_t>(written[i])] = static_cast<std::int64_t>(i);
  const auto numbers = Take(*source, rows_);
  int neighbours = 0;
  for (std::size_t i = 1; i < numbers.size(); ++i) {
    neighbours += place[static_cast<std::size_t>(numbers[i])] ==
                          place[static_cast<std::size_t>(numbers[i - 1])] + 1
                      ? 1
                      : 0;
  }
  EXPECT_LT(neighbours, rows_ / 8);
}

TEST_F(StoreSourceTest, DamageIsReportedByNextAndTheSourceCanStillBeDestroyed) {
  std::filesystem::resize_file(directory_ + "/" + store_->manifest().shards[2].file, 4200);
  auto source = Source();
  std::vector<float> rows(static_cast<std::size_t>(rows_ * 3));
  const auto status = source->Next(rows);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), ::testing::HasSubstr("shard-00002.safetensors"));
  EXPECT_EQ(source->Next(rows).code(), absl::StatusCode::kDataLoss)
      << "it does not go on as if nothing had been";
}

TEST_F(StoreSourceTest, BatchesAreWholeRows) {
  std::vector<float> rows(4);
  EXPECT_EQ(Source()->Next(rows).code(), absl::StatusCode::kInvalidArgument);
}

TEST(PassOrderTest, WindowsTileThePassForOddSizes) {
  for (const std::vector<std::int64_t>& shards :
       {std::vector<std::int64_t>{1}, {5, 1, 17}, {64, 64}, {3, 3, 3, 3, 3}}) {
    for (std::int64_t pass = 0; pass < 3; ++pass) {
      const PassOrder order(shards, 10, 9, pass, {40, 2});
      const std::int64_t rows = std::accumulate(shards.begin(), shards.end(), std::int64_t{0});
      EXPECT_EQ(order.rows(), rows);
      std::set<std::pair<std::int64_t, std::int64_t>> seen;
      for (std::int64_t w = 0; w < order.windows(); ++w) {
        std::vector<std::pair<std::int64_t, std::int64_t>> laid;
        for (const Extent& e : order.Extents(w)) {
          for (std::int64_t r = 0; r < e.rows; ++r) laid.emplace_back(e.shard, e.first_row + r);
        }
        EXPECT_EQ(static_cast<std::int64_t>(laid.size()), order.WindowRows(w));
        seen.insert(laid.begin(), laid.end());
        for (std::int64_t i = 0; i < order.WindowRows(w); ++i)
          EXPECT_EQ(order.WindowAt(order.WindowFirst(w) + i), w);
      }
      EXPECT_EQ(static_cast<std::int64_t>(seen.size()), rows);
    }
  }
}

TEST(PassOrderTest, OrderIsPinned) {
  // A change here breaks every resumed run: the order is part of the format.
  const PassOrder order({10, 6}, 4, 0, 1, {8, 2});
  std::vector<std::int64_t> got;
  for (std::int64_t w = 0; w < order.windows(); ++w) {
    std::vector<std::int64_t> laid;
    for (const Extent& e : order.Extents(w)) {
      for (std::int64_t r = 0; r < e.rows; ++r) laid.push_back(100 * e.shard + e.first_row + r);
    }
    for (const std::int32_t i : order.RowOrder(w)) got.push_back(laid[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(
      got, (std::vector<std::int64_t>{102, 104, 105, 103, 3, 100, 101, 2, 5, 9, 4, 8, 1, 0, 6, 7}));
}

}  // namespace
}  // namespace sae::data
