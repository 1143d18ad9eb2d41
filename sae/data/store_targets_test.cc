// Targets of transcoders: rows y that stand beside the rows x through writer, shuffle and reader.

#include <algorithm>
#include <fstream>
#include <limits>

#include <gmock/gmock.h>

#include "sae/base/safetensors.h"
#include "sae/data/raw_file.h"
#include "sae/data/store_create.h"
#include "sae/data/store_source.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

constexpr std::int64_t kInputs = 3, kTargetD = 2, kRows = 500;

/// y of row r: (-r, 1000 - r).
std::vector<float> Targets(std::int64_t first, std::int64_t count) {
  std::vector<float> out;
  for (std::int64_t r = first; r < first + count; ++r) {
    out.push_back(static_cast<float>(-r));
    out.push_back(static_cast<float>(1000 - r));
  }
  return out;
}

class StoreTargetsTest : public ScratchTest {
 protected:
  StoreWriterOptions Options() const {
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = kInputs;
    o.target_d = kTargetD;
    o.dtype = DType::kF32;
    o.heldout_fraction = 0.1;
    o.shard_bytes = 100 * 4 * (kInputs + kTargetD);
    return o;
  }
  absl::StatusOr<StoreManifest> Write(const StoreWriterOptions& options, std::int64_t batch = 7) {
    TestDisk disk;
    SAE_ASSIGN_OR_RETURN(auto writer, StoreWriter::Create(options, disk));
    for (std::int64_t first = 0; first < kRows; first += batch) {
      const std::int64_t n = std::min(batch, kRows - first);
      const auto rows = NumberedRows(first, n, kInputs);
      const auto targets = Targets(first, n);
      std::vector<std::int32_t> tokens, positions;
      for (std::int64_t r = first; r < first + n; ++r) {
        tokens.push_back(static_cast<std::int32_t>(r));
        positions.push_back(static_cast<std::int32_t>(2 * r));
      }
      SAE_RETURN_IF_ERROR(writer->Append({rows, tokens, positions, {}, targets}));
    }
    return writer->Finish();
  }
  std::shared_ptr<const ActivationStore> Open() {
    auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  /// Every [x | y] has the y of its x.
  static void ExpectPairs(std::span<const float> rows) {
    constexpr auto kWidth = static_cast<std::size_t>(kInputs + kTargetD);
    for (std::size_t i = 0; i < rows.size(); i += kWidth) {
      EXPECT_EQ(rows[i + 2], rows[i] + 0.5F);
      EXPECT_EQ(rows[i + 3], -rows[i]);
      EXPECT_EQ(rows[i + 4], 1000 - rows[i]);
    }
  }
  void Overwrite(const std::string& file, std::int64_t offset, float value) const {
    std::fstream f(directory_ + "/" + file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(offset);
    f.write(reinterpret_cast<const char*>(&value), sizeof value);
  }
};

TEST_F(StoreTargetsTest, EveryRowKeepsItsTargetThroughTheShuffle) {
  std::string first_hash;
  for (const std::int64_t memory : {std::int64_t{256} << 20, std::int64_t{4000}}) {
    std::filesystem::remove_all(directory_);
    StoreWriterOptions o = Options();
    o.memory_bytes = memory;  // the smaller one shuffles through files
    const auto manifest = Write(o);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    if (first_hash.empty()) first_hash = manifest->shards[0].hash;
    EXPECT_EQ(manifest->shards[0].hash, first_hash);
    const auto store = Open();
    ASSERT_GT(store->shards(Split::kTraining).size(), 2U);
    EXPECT_EQ(store->target_d(), kTargetD);
    for (const Split split : {Split::kTraining, Split::kHeldout}) {
      const std::int64_t n = store->rows(split);
      std::vector<float> rows(static_cast<std::size_t>(n * store->width(RowKind::kWithTargets)));
      ASSERT_TRUE(store->ReadRows(split, 0, rows, RowKind::kWithTargets).ok());
      ExpectPairs(rows);
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
      ASSERT_TRUE(store->ReadColumn(split, "token_ids", 0, tokens).ok());
      for (std::size_t i = 0; i < tokens.size(); ++i)
        EXPECT_EQ(static_cast<float>(tokens[i]), rows[i * 5]);
      // Without being asked for, they are not there.
      EXPECT_EQ(RowNumbers(*store, split).size(), static_cast<std::size_t>(n));
    }
    EXPECT_TRUE(store->VerifyAll().ok()) << store->VerifyAll();
  }
}

TEST_F(StoreTargetsTest, AnySafetensorsReaderSeesBothTensors) {
  const auto manifest = Write(Options());
  ASSERT_TRUE(manifest.ok());
  const auto reader = SafetensorsReader::Open(directory_ + "/" + manifest->shards[1].file);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->Get("activations")->shape, (std::vector<std::int64_t>{100, kInputs}));
  EXPECT_EQ((*reader)->Get("activations")->file_offset % 4096, 0);
  const auto x = (*reader)->GetFloats("activations");
  const auto y = (*reader)->GetFloats("targets", {100, kTargetD});
  ASSERT_TRUE(x.ok() && y.ok()) << y.status();
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ((*y)[2 * i], -(*x)[3 * i]);
  for (const auto& entry : std::filesystem::directory_iterator(directory_))
    EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
}

TEST_F(StoreTargetsTest, StatisticsAreOfTheTrainingTargets) {
  const auto manifest = Write(Options());
  ASSERT_TRUE(manifest.ok());
  const auto numbers = RowNumbers(*Open(), Split::kTraining);
  double sum = 0, squares = 0;
  for (const std::int64_t r : numbers) {
    const auto x = static_cast<double>(r);
    sum += x;
    squares += x * x + (1000 - x) * (1000 - x);
  }
  const auto n = static_cast<double>(numbers.size());
  ASSERT_EQ(manifest->target_mean.size(), 2U);
  EXPECT_DOUBLE_EQ(manifest->target_mean[0], -sum / n);
  EXPECT_NEAR(manifest->target_mean[1], 1000 - sum / n, 1e-9);
  EXPECT_NEAR(manifest->target_mean_squared_norm, squares / n, 1e-6);
}

TEST_F(StoreTargetsTest, TheSourceGivesPairsInTheOrderOfRowsWithoutThem) {
  ASSERT_TRUE(Write(Options()).ok());
  const auto store = Open();
  const PassOrderOptions small{8 * 12, 3};
  StoreSource plain(store, 1, small), paired(store, 1, small, RowKind::kWithTargets);
  EXPECT_EQ(plain.d(), kInputs);
  EXPECT_EQ(paired.d(), kInputs + kTargetD);
  const std::int64_t rows = store->rows(Split::kTraining);
  for (std::int64_t done = 0; done < 3 * rows; done += 50) {  // three passes
    std::vector<float> x(50 * kInputs), xy(50 * (kInputs + kTargetD));
    ASSERT_TRUE(plain.Next(x).ok());
    ASSERT_TRUE(paired.Next(xy).ok());
    ExpectPairs(xy);
    for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(xy[5 * i], x[3 * i]);
  }
  ASSERT_TRUE(plain.Seek(rows + 17).ok());
  ASSERT_TRUE(paired.Seek(rows + 17).ok());
  std::vector<float> x(kInputs), xy(kInputs + kTargetD);
  ASSERT_TRUE(plain.Next(x).ok() && paired.Next(xy).ok());
  EXPECT_EQ(xy[0], x[0]);
  ExpectPairs(xy);
}

TEST_F(StoreTargetsTest, AStoreWithoutTargetsSaysSo) {
  StoreWriterOptions o = Options();
  o.target_d = 0;
  ASSERT_TRUE(WriteNumberedStore(o, 50).ok());
  const auto store = Open();
  EXPECT_TRUE(store->CheckHas(RowKind::kActivations).ok());
  std::vector<float> row(kInputs);
  StoreSource source(store, 0, {}, RowKind::kWithTargets);
  for (const absl::Status& status :
       {store->CheckHas(RowKind::kWithTargets),
        store->ReadRows(Split::kTraining, 0, row, RowKind::kWithTargets), source.Next(row)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), HasSubstr("saeloom harvest --hook HOOK --target-hook HOOK"));
  }
}

TEST_F(StoreTargetsTest, DamagedTargetsAreFound) {
  const auto manifest = Write(Options());
  ASSERT_TRUE(manifest.ok());
  const std::string& file = manifest->shards[0].file;
  const std::int64_t offset =
      (*SafetensorsReader::Open(directory_ + "/" + file))->Get("targets")->file_offset;
  Overwrite(file, offset + 4 * (5 * kTargetD + 1), std::numeric_limits<float>::quiet_NaN());
  // The hash speaks first; a store whose manifest has the new hash still refuses the value.
  EXPECT_THAT(Message(ActivationStore::Open(directory_, StoreVerify::kAtOpen).status()),
              HasSubstr("hash to"));
  auto text = RealEnv().Read(directory_ + "/manifest.json");
  ASSERT_TRUE(text.ok());
  const std::string hash = *HashFile(directory_ + "/" + file);
  text->replace(text->find(manifest->shards[0].hash), hash.size(), hash);
  ASSERT_TRUE(WriteFileAtomically(RealEnv(), directory_ + "/manifest.json", *text).ok());
  const auto store = Open();
  std::vector<float> rows(10 * kInputs), pairs(10 * (kInputs + kTargetD));
  EXPECT_TRUE(store->ReadRows(Split::kTraining, 0, rows).ok());
  const auto status = store->ReadRows(Split::kTraining, 0, pairs, RowKind::kWithTargets);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              HasSubstr(absl::StrCat(file, ": row 5, column 1 of the targets (offset ",
                                     offset + 4 * (5 * kTargetD + 1), ") is nan")));
  EXPECT_EQ(store->VerifyAll().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTargetsTest, ATruncatedShardIsRefusedAtOpen) {
  const auto manifest = Write(Options());
  ASSERT_TRUE(manifest.ok());
  const std::string path = directory_ + "/" + manifest->shards[0].file;
  const auto reader = SafetensorsReader::Open(path);
  std::filesystem::resize_file(
      path, static_cast<std::uintmax_t>((*reader)->Get("targets")->file_offset + 4));
  EXPECT_THAT(Message(ActivationStore::Open(directory_).status()), HasSubstr("cut short"));
}

TEST_F(StoreTargetsTest, BadTargetsAreRefusedWithTheirRow) {
  TestDisk disk;
  const auto rows = NumberedRows(0, 2, kInputs);
  {
    auto writer = StoreWriter::Create(Options(), disk);
    EXPECT_EQ(Message((*writer)->Append({rows, {}, {}, {}})),
              "0 values of targets for 2 rows of target_d = 2");
  }
  {
    auto writer = StoreWriter::Create(Options(), disk);
    auto targets = Targets(0, 2);
    targets[3] = std::numeric_limits<float>::infinity();
    EXPECT_THAT(Message((*writer)->Append({rows, {}, {}, {}, targets})),
                HasSubstr("row 1, column 1 of the targets is inf"));
  }
  StoreWriterOptions o = Options();
  o.target_d = -1;
  EXPECT_THAT(Message(StoreWriter::Create(o, disk).status()), HasSubstr("target_d is -1"));
}

TEST_F(StoreTargetsTest, AFullDiskLeavesNothing) {
  TestDisk disk(std::int64_t{1} << 40, 9000);
  auto writer = StoreWriter::Create(Options(), disk);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(
      (*writer)->Append({NumberedRows(0, kRows, kInputs), {}, {}, {}, Targets(0, kRows)}).ok());
  EXPECT_EQ((*writer)->Finish().status().code(), absl::StatusCode::kResourceExhausted);
  writer->reset();
  EXPECT_TRUE(ScratchIsEmpty());
}

TEST_F(StoreTargetsTest, ImportTakesATensorOfTargets) {
  const auto rows = NumberedRows(0, kRows, kInputs);
  const auto targets = Targets(0, kRows);
  ImportOptions import;
  import.from = scratch_ + "/x.safetensors";
  import.targets = "y";
  import.writer = Options();
  import.writer.target_d = 0;
  const auto write = [&](std::int64_t target_rows) {
    return WriteSafetensors(
        RealEnv(), import.from,
        {{"activations", DType::kF32, {kRows, kInputs}, AsBytes(rows.data(), rows.size())},
         {"y",
          DType::kF32,
          {target_rows, kTargetD},
          AsBytes(targets.data(), static_cast<std::size_t>(target_rows * kTargetD))}});
  };
  ASSERT_TRUE(write(kRows).ok());
  TestDisk disk;
  ASSERT_TRUE(ImportStore(import, disk).ok());
  const auto store = Open();
  std::vector<float> pairs(static_cast<std::size_t>(store->rows(Split::kTraining) * 5));
  ASSERT_TRUE(store->ReadRows(Split::kTraining, 0, pairs, RowKind::kWithTargets).ok());
  ExpectPairs(pairs);
  std::filesystem::remove_all(directory_);
  ASSERT_TRUE(write(kRows - 1).ok());
  EXPECT_THAT(Message(ImportStore(import, disk).status()),
              HasSubstr("the targets, tensor 'y', must be 500 rows"));
}

}  // namespace
}  // namespace sae::data
