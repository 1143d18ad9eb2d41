#include "sae/data/store_writer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include <gmock/gmock.h>

#include "sae/base/hash.h"
#include "sae/base/random.h"
#include "sae/base/safetensors.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

class StoreWriterTest : public ScratchTest {
 protected:
  StoreWriterOptions Options(std::int64_t d = 3) const {
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = d;
    o.dtype = DType::kF32;
    o.seed = 5;
    o.heldout_fraction = 0.1;
    o.source.kind = "import";
    return o;
  }
};

/// The plain statement of the written order: rows sorted by (HashCounter(seed, row), row).
std::vector<std::int64_t> ReferenceOrder(std::int64_t rows, std::uint64_t seed, double fraction,
                                         bool heldout) {
  std::vector<std::int64_t> order;
  for (std::int64_t r = 0; r < rows; ++r) {
    const bool held = static_cast<double>(Xxh3(AsBytes(&r, 1), seed)) < std::ldexp(fraction, 64);
    if (held == heldout) order.push_back(r);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return HashCounter(seed, static_cast<std::uint64_t>(a)) <
           HashCounter(seed, static_cast<std::uint64_t>(b));
  });
  return order;
}

TEST_F(StoreWriterTest, WrittenOrderIsThatOfTheReferenceForAnyMemoryBatchAndShardSize) {
  const std::int64_t rows = 1000;
  const auto training = ReferenceOrder(rows, 5, 0.1, false);
  const auto heldout = ReferenceOrder(rows, 5, 0.1, true);
  ASSERT_GT(heldout.size(), 60U);
  ASSERT_LT(heldout.size(), 140U);
  struct Case {
    std::int64_t memory, expected_rows, batch;
  };
  std::string first_shard_hash;
  for (const Case& c : {Case{std::int64_t{256} << 20, 0, 1000}, Case{20000, rows, 64},
                        Case{20000, rows / 50, 1}, Case{8000, 0, 333}}) {
    StoreWriterOptions o = Options();
    o.memory_bytes = c.memory;
    o.expected_rows = c.expected_rows;
    o.shard_bytes = 100 * 12;
    auto manifest = WriteNumberedStore(o, rows, c.batch);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->shards.size(), (training.size() + 99) / 100);
    if (first_shard_hash.empty()) first_shard_hash = manifest->shards[0].hash;
    EXPECT_EQ(manifest->shards[0].hash, first_shard_hash);
    auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ(RowNumbers(**store, Split::kTraining), training);
    EXPECT_EQ(RowNumbers(**store, Split::kHeldout), heldout);
    EXPECT_TRUE((*store)->VerifyAll().ok());
    std::filesystem::remove_all(directory_);
  }
  EXPECT_TRUE(ScratchIsEmpty());
}

TEST_F(StoreWriterTest, SequentialOrderKeepsRowsInPlace) {
  for (const std::int64_t memory : {std::int64_t{1} << 20, std::int64_t{500}}) {
    StoreWriterOptions o = Options();
    o.shuffled = false;
    o.heldout_fraction = 0;
    o.memory_bytes = memory;
    auto manifest = WriteNumberedStore(o, 300);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->order, "sequential");
    auto store = ActivationStore::Open(directory_);
    ASSERT_TRUE(store.ok());
    std::vector<std::int64_t> want(300);
    std::iota(want.begin(), want.end(), 0);
    EXPECT_EQ(RowNumbers(**store, Split::kTraining), want);
    std::filesystem::remove_all(directory_);
  }
}

TEST_F(StoreWriterTest, HeldoutIsChosenByDocumentAndColumnsStayWithTheirRows) {
  StoreWriterOptions o = Options(2);
  o.heldout_fraction = 0.25;
  o.memory_bytes = 3000;
  auto writer = StoreWriter::Create(o);
  ASSERT_TRUE(writer.ok());
  std::int64_t row = 0;
  for (std::int32_t document = 0; document < 40; ++document) {
    std::vector<std::int32_t> tokens, positions, documents;
    for (std::int32_t p = 1; p <= 5; ++p) {
      tokens.push_back(document * 100 + p);
      positions.push_back(p);
      documents.push_back(document);
    }
    const auto values = NumberedRows(row, 5, 2);
    row += 5;
    ASSERT_TRUE((*writer)->Append({values, tokens, positions, documents}).ok());
    ASSERT_TRUE(
        (*writer)
            ->AddText(
                {document, "text " + std::to_string(document), {document * 100, 1, 2, 3, 4, 5}, {}})
            .ok());
  }
  (*writer)->source().dropped["position_0"] = 40;
  auto manifest = (*writer)->Finish();
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->heldout_by, "document");
  EXPECT_EQ(manifest->rows + manifest->heldout_rows, 200);
  auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->manifest().source.dropped.at("position_0"), 40);
  std::set<std::int32_t> documents_of[2];
  for (const Split split : {Split::kTraining, Split::kHeldout}) {
    const auto numbers = RowNumbers(**store, split);
    std::vector<std::int32_t> tokens(numbers.size()), positions(numbers.size()),
        documents(numbers.size());
    ASSERT_TRUE((*store)->ReadColumn(split, "token_ids", 0, tokens).ok());
    ASSERT_TRUE((*store)->ReadColumn(split, "positions", 0, positions).ok());
    ASSERT_TRUE((*store)->ReadColumn(split, "documents", 0, documents).ok());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      EXPECT_EQ(documents[i], numbers[i] / 5);
      EXPECT_EQ(positions[i], numbers[i] % 5 + 1);
      EXPECT_EQ(tokens[i], documents[i] * 100 + positions[i]);
      documents_of[split == Split::kHeldout].insert(documents[i]);
      const std::int64_t unit = documents[i];
      const bool held = static_cast<double>(Xxh3(AsBytes(&unit, 1), 5)) < std::ldexp(0.25, 64);
      EXPECT_EQ(held, split == Split::kHeldout);
    }
  }
  EXPECT_EQ(documents_of[0].size() + documents_of[1].size(), 40U)
      << "a document stands on both sides";
  std::int32_t texts = 0;
  ASSERT_TRUE((*store)
                  ->ReadTexts([&](const StoreText& t) {
                    EXPECT_EQ(t.document, texts);
                    EXPECT_EQ(t.text, "text " + std::to_string(texts));
                    EXPECT_EQ(t.token_ids[0], texts * 100);
                    ++texts;
                    return true;
                  })
                  .ok());
  EXPECT_EQ(texts, 40);
}

TEST_F(StoreWriterTest, StatisticsAreOfTrainingRowsAsStored) {
  StoreWriterOptions o = Options(4);
  o.dtype = DType::kBf16;
  o.heldout_fraction = 0.3;
  auto writer = StoreWriter::Create(o);
  ASSERT_TRUE(writer.ok());
  Random random(3);
  std::vector<float> values(4 * 500);
  for (float& v : values) v = static_cast<float>(100 + random.Normal());
  ASSERT_TRUE((*writer)->Append({values, {}, {}, {}}).ok());
  auto manifest = (*writer)->Finish();
  ASSERT_TRUE(manifest.ok());
  double mean[4] = {}, squares = 0;
  std::int64_t n = 0;
  for (std::int64_t r = 0; r < 500; ++r) {
    if (static_cast<double>(Xxh3(AsBytes(&r, 1), 5)) < std::ldexp(0.3, 64)) continue;
    ++n;
    for (int c = 0; c < 4; ++c) {
      const double v = Bf16ToFloat(FloatToBf16(values[static_cast<std::size_t>(4 * r + c)]));
      mean[c] += v;
      squares += v * v;
    }
  }
  EXPECT_EQ(manifest->rows, n);
  for (int c = 0; c < 4; ++c)
    EXPECT_DOUBLE_EQ(manifest->mean[static_cast<std::size_t>(c)], mean[c] / static_cast<double>(n));
  EXPECT_NEAR(manifest->mean_squared_norm, squares / static_cast<double>(n),
              1e-9 * squares / static_cast<double>(n));
}

TEST_F(StoreWriterTest, NonFiniteAndUnrepresentableRowsAreRefusedAndLeaveNothing) {
  struct Case {
    DType dtype;
    float value;
    const char* says;
  };
  for (const Case& c : {Case{DType::kF32, std::numeric_limits<float>::quiet_NaN(), "nan"},
                        Case{DType::kBf16, -std::numeric_limits<float>::infinity(), "-inf"},
                        Case{DType::kF16, 70000.0F, "does not fit f16"},
                        Case{DType::kBf16, 3.4e38F, "does not fit bf16"}}) {
    StoreWriterOptions o = Options();
    o.dtype = c.dtype;
    auto writer = StoreWriter::Create(o);
    ASSERT_TRUE(writer.ok());
    auto values = NumberedRows(0, 10, 3);
    values[7 * 3 + 2] = c.value;
    const auto status = (*writer)->Append({values, {}, {}, {}});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), HasSubstr("row 7, column 2"));
    EXPECT_THAT(Message(status), HasSubstr(c.says));
    EXPECT_FALSE((*writer)->Finish().ok());
    writer->reset();
    EXPECT_TRUE(ScratchIsEmpty());
  }
}

TEST_F(StoreWriterTest, NoRowsIsOneClearError) {
  {
    auto writer = StoreWriter::Create(Options());
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->AddText({0, "", {}, {}}).ok());
    const auto status = (*writer)->Finish().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), HasSubstr("corpus is empty"));
  }
  StoreWriterOptions o = Options();
  o.heldout_fraction = 0.999999;
  EXPECT_THAT(Message(WriteNumberedStore(o, 3).status()), HasSubstr("all 3 rows are held out"));
  EXPECT_TRUE(ScratchIsEmpty());
}

TEST_F(StoreWriterTest, BadShapesAndOptionsAreRefused) {
  auto writer = StoreWriter::Create(Options());
  ASSERT_TRUE(writer.ok());
  const std::vector<float> values(7);
  EXPECT_THAT(Message((*writer)->Append({values, {}, {}, {}})),
              HasSubstr("7 values are not whole rows of d = 3"));
  StoreWriterOptions o = Options(0);
  o.heldout_fraction = 1;
  o.dtype = DType::kI32;
  const auto status = StoreWriter::Create(o).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* part : {"d is 0", "held-out fraction 1", "dtype"})
    EXPECT_THAT(Message(status), HasSubstr(part));
}

TEST_F(StoreWriterTest, ColumnsMustBeTheSameInEveryBatch) {
  auto writer = StoreWriter::Create(Options());
  ASSERT_TRUE(writer.ok());
  const auto values = NumberedRows(0, 2, 3);
  const std::vector<std::int32_t> ids = {1, 2};
  ASSERT_TRUE((*writer)->Append({values, ids, ids, {}}).ok());
  EXPECT_THAT(Message((*writer)->Append({values, {}, {}, {}})),
              HasSubstr("token_ids has 0 values for 2 rows"));
}

TEST_F(StoreWriterTest, NameIsTakenOnlyWhenComplete) {
  auto writer = StoreWriter::Create(Options());
  ASSERT_TRUE(writer.ok());
  const auto values = NumberedRows(0, 50, 3);
  ASSERT_TRUE((*writer)->Append({values, {}, {}, {}}).ok());
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_EQ(StoreWriter::Create(Options()).status().code(), absl::StatusCode::kFailedPrecondition)
      << "two writers";
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_TRUE(std::filesystem::exists(directory_ + "/manifest.json"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/.lock"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + ".partial"));
  EXPECT_EQ(StoreWriter::Create(Options()).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(StoreWriterTest, LeftoversOfAKilledWriterAreRemovedByTheNext) {
  std::filesystem::create_directories(directory_ + ".partial");
  ASSERT_TRUE(WriteFileAtomically(RealEnv(), directory_ + ".partial/bucket-3", "left over").ok());
  ASSERT_TRUE(WriteNumberedStore(Options(), 50).ok());
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/bucket-3"));
  EXPECT_FALSE(std::filesystem::exists(directory_ + ".partial"));
}

}  // namespace
}  // namespace sae::data
