#include "sae/data/store_reader.h"

#include <fstream>
#include <limits>

#include <gmock/gmock.h>

#include "sae/base/hash.h"
#include "sae/base/safetensors.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

class StoreReaderTest : public ScratchTest {
 protected:
  void Write(std::int64_t rows = 100, DType dtype = DType::kF32) {
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = 4;
    o.dtype = dtype;
    o.heldout_fraction = 0.2;
    o.shard_bytes = 40 * 4 * SizeOf(dtype);
    auto manifest = WriteNumberedStore(o, rows);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    manifest_ = *manifest;
  }
  std::string Shard(int i) const {
    return directory_ + "/" + manifest_.shards[static_cast<std::size_t>(i)].file;
  }
  absl::Status ReadAll(const ActivationStore& store) {
    std::vector<float> rows(static_cast<std::size_t>(store.rows(Split::kTraining) * store.d()));
    return store.ReadRows(Split::kTraining, 0, rows);
  }
  static void Overwrite(const std::string& path, std::int64_t offset, const std::string& bytes) {
    std::fstream f(path, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(offset);
    f.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void ReplaceInManifest(const std::string& from, const std::string& to) {
    auto text = RealEnv().Read(directory_ + "/manifest.json");
    ASSERT_TRUE(text.ok());
    const auto at = text->find(from);
    ASSERT_NE(at, std::string::npos) << from << " in " << *text;
    text->replace(at, from.size(), to);
    ASSERT_TRUE(WriteFileAtomically(RealEnv(), directory_ + "/manifest.json", *text).ok());
  }

  StoreManifest manifest_;
};

TEST_F(StoreReaderTest, ReadsAnyRangeAcrossShards) {
  Write();
  auto store = ActivationStore::Open(directory_);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto all = RowNumbers(**store, Split::kTraining);
  ASSERT_GT((*store)->shards(Split::kTraining).size(), 1U);
  for (std::size_t first = 0; first < all.size(); first += 7) {
    const std::size_t n = std::min<std::size_t>(45, all.size() - first);
    std::vector<float> rows(n * 4);
    ASSERT_TRUE((*store)->ReadRows(Split::kTraining, static_cast<std::int64_t>(first), rows).ok());
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t c = 0; c < 4; ++c)
        EXPECT_EQ(rows[4 * i + c],
                  static_cast<float>(all[first + i]) + 0.25F * static_cast<float>(c));
    }
  }
  std::vector<float> rows(8);
  EXPECT_EQ(
      (*store)->ReadRows(Split::kTraining, static_cast<std::int64_t>(all.size()) - 1, rows).code(),
      absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*store)->ReadRows(Split::kHeldout, -1, rows).code(), absl::StatusCode::kOutOfRange);
  std::vector<std::int32_t> ids(2);
  EXPECT_EQ((*store)->ReadColumn(Split::kTraining, "token_ids", 0, ids).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ((*store)->ReadTexts([](const StoreText&) { return true; }).code(),
            absl::StatusCode::kNotFound);
}

TEST_F(StoreReaderTest, EveryDtypeRoundTrips) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    std::filesystem::remove_all(directory_);
    Write(60, dtype);
    auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_TRUE((*store)->VerifyAll().ok());
    auto numbers = RowNumbers(**store, Split::kTraining);
    const auto heldout = RowNumbers(**store, Split::kHeldout);
    numbers.insert(numbers.end(), heldout.begin(), heldout.end());
    std::sort(numbers.begin(), numbers.end());
    for (std::size_t i = 0; i < numbers.size(); ++i)
      EXPECT_EQ(numbers[i], static_cast<std::int64_t>(i));
  }
}

TEST_F(StoreReaderTest, ManifestHashIsThatOfTheFile) {
  Write();
  auto store = ActivationStore::Open(directory_);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ((*store)->manifest_hash(),
            HashToText(Xxh3(*RealEnv().Read(directory_ + "/manifest.json"))));
}

TEST_F(StoreReaderTest, TensorDataStartsAtAMultipleOf4096) {
  Write();
  auto reader = SafetensorsReader::Open(Shard(0));
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->Get("activations")->file_offset % 4096, 0);
}

TEST_F(StoreReaderTest, TruncatedShardIsRefusedAtOpen) {
  Write();
  const auto size = std::filesystem::file_size(Shard(1));
  for (const std::uintmax_t keep : {size - 1, size / 2, std::uintmax_t{0}}) {
    std::filesystem::resize_file(Shard(1), keep);
    const auto status = ActivationStore::Open(directory_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(Message(status), HasSubstr("shard-00001.safetensors"));
    EXPECT_THAT(Message(status), HasSubstr("cut short"));
  }
  std::filesystem::remove(Shard(1));
  EXPECT_EQ(ActivationStore::Open(directory_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreReaderTest, ShardThatIsCutAfterOpenIsAnErrorAndNotACrash) {
  Write();
  auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
  ASSERT_TRUE(store.ok());
  std::filesystem::resize_file(Shard(1), 4096 + 8);
  const auto status = ReadAll(**store);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status), HasSubstr("shard-00001.safetensors"));
  EXPECT_THAT(Message(status), HasSubstr("offset 4104"));
}

TEST_F(StoreReaderTest, FlippedByteIsFoundAtOpenOrAtFirstRead) {
  Write();
  Overwrite(Shard(1), 4096 + 33, "\x01");
  const auto at_open = ActivationStore::Open(directory_, StoreVerify::kAtOpen).status();
  auto store = ActivationStore::Open(directory_);
  ASSERT_TRUE(store.ok()) << store.status();
  for (const auto& status : {at_open, ReadAll(**store), (*store)->VerifyAll()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(Message(status), HasSubstr("shard-00001.safetensors"));
  }
  std::vector<float> row(4);
  EXPECT_TRUE((*store)->ReadRows(Split::kTraining, 0, row).ok()) << "shard 0 is whole";
}

TEST_F(StoreReaderTest, NanInAShardWithACorrectHashNamesShardAndRow) {
  Write();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Overwrite(Shard(1), 4096 + (5 * 4 + 2) * 4, std::string(reinterpret_cast<const char*>(&nan), 4));
  ReplaceInManifest(manifest_.shards[1].hash, HashToText(Xxh3(*RealEnv().Read(Shard(1)))));
  auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto status = ReadAll(**store);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(Message(status),
              HasSubstr("shard-00001.safetensors: row 5, column 2 (offset 4184) is nan"));
}

TEST_F(StoreReaderTest, ManifestThatContradictsItsShardsIsRefused) {
  struct Case {
    const char *from, *to, *says;
  };
  for (const Case& c :
       {Case{"\"dtype\": \"f32\"", "\"dtype\": \"bf16\"", "the manifest promises 40 x 4 bf16"},
        Case{"\"d\": 4", "\"d\": 5", "mean has 4 values, d is 5"},
        Case{"\"rows\": 40", "\"rows\": 41", "rows together"},
        Case{"\"has_tokens\": false", "\"has_tokens\": true", "no tensor 'token_ids'"},
        Case{"shard-00001", "../shard-00001", "file name"}, Case{"\"order\"", "\"ordr\"", "order"},
        Case{"{", "[", "not a JSON object"}}) {
    std::filesystem::remove_all(directory_);
    Write();
    ReplaceInManifest(c.from, c.to);
    const auto status = ActivationStore::Open(directory_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.from << " " << status;
    EXPECT_THAT(Message(status), HasSubstr(c.says));
  }
}

TEST_F(StoreReaderTest, OtherFoldersAndNewerFormatsSaySo) {
  EXPECT_THAT(Message(ActivationStore::Open(scratch_).status()),
              HasSubstr("is not an activation store"));
  Write();
  ReplaceInManifest("\"format_version\": 1", "\"format_version\": 9");
  EXPECT_EQ(ActivationStore::Open(directory_).status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(StoreReaderTest, WrongStatisticsAreFoundByVerify) {
  Write();
  ReplaceInManifest("\"mean\": [", "\"mean\": [1");
  auto store = ActivationStore::Open(directory_);
  ASSERT_TRUE(store.ok());
  EXPECT_THAT(Message((*store)->VerifyAll()), HasSubstr("mean"));
}

TEST(ManifestTest, RoundTripsEveryField) {
  StoreManifest m;
  m.d = 2;
  m.dtype = DType::kF16;
  m.rows = 7;
  m.shards = {{"shard-00000.safetensors", 7, 4096, "xxh3:0123456789abcdef"}};
  m.heldout_rows = 2;
  m.heldout_shards = {{"heldout-00000.safetensors", 2, 5000, "xxh3:0"}};
  m.heldout_fraction = 0.02;
  m.heldout_by = "document";
  m.order = "shuffled";
  m.seed = ~std::uint64_t{0};
  m.has_tokens = m.has_documents = true;
  m.texts = {"texts.jsonl.zst", 3, 99, "xxh3:1"};
  m.extras = {{"dictionary.safetensors", 2, 64, "xxh3:3"}};
  m.source = {"harvest",
              "SmolLM2",
              "xxh3:2",
              "blocks.8.ln2.hook_normalized",
              "blocks.8.hook_mlp_out",
              256,
              "mask",
              "f32",
              {{"position_0", 3}},
              {{"corpus", "x"}}};
  m.mean_squared_norm = 1.0 / 3.0;
  m.mean = {0.1, -2e-17};
  m.target_d = 3;
  m.target_mean_squared_norm = 2.0 / 3.0;
  m.target_mean = {1, 0.3, -5};
  const std::string json = ManifestToJson(m);
  auto back = ManifestFromJson(json, "m");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ManifestToJson(*back), json);
  EXPECT_EQ(back->mean, m.mean);
  EXPECT_EQ(back->seed, m.seed);
  EXPECT_EQ(back->source.dropped, m.source.dropped);
  EXPECT_EQ(back->texts.rows, 3);
  EXPECT_EQ(back->extras.size(), 1U);
  EXPECT_EQ(back->source.target_hook, "blocks.8.hook_mlp_out");
  EXPECT_EQ(back->target_d, 3);
  EXPECT_EQ(back->target_mean, m.target_mean);
  EXPECT_EQ(back->target_mean_squared_norm, m.target_mean_squared_norm);
  m.target_mean.pop_back();
  EXPECT_THAT(Message(ManifestFromJson(ManifestToJson(m), "m").status()),
              HasSubstr("target_mean has 2 values, target_d is 3"));
}

TEST(ManifestTest, WithoutTargetsItHasNoSuchKeys) {
  StoreManifest m;
  m.d = 1;
  m.rows = 1;
  m.shards = {{"shard-00000.safetensors", 1, 4096, "xxh3:0"}};
  m.mean = {0};
  EXPECT_EQ(ManifestToJson(m).find("target"), std::string::npos);
  EXPECT_EQ(ManifestFromJson(ManifestToJson(m), "m")->target_d, 0);
}

}  // namespace
}  // namespace sae::data
