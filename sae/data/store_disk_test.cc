// What a store does when the disk is full, before and while it is written.
#include <gmock/gmock.h>

#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

class StoreDiskTest : public ScratchTest {
 protected:
  StoreWriterOptions Options() const {
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = 8;
    o.dtype = DType::kF32;
    o.memory_bytes = 8000;
    return o;
  }
};

TEST_F(StoreDiskTest, RefusesBeforeItStartsWhenTheRowsWillNotFit) {
  StoreWriterOptions o = Options();
  o.expected_rows = 1'000'000;
  TestDisk disk(std::int64_t{30} << 20, 0);
  const auto status = StoreWriter::Create(o, disk).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr(directory_));
  EXPECT_THAT(Message(status), HasSubstr("1000000 rows"));
  EXPECT_TRUE(ScratchIsEmpty());
}

TEST_F(StoreDiskTest, EstimateCoversWhatIsWritten) {
  StoreWriterOptions o = Options();
  o.expected_rows = 3000;
  TestDisk disk(std::int64_t{1} << 40, std::int64_t{1} << 40);
  auto manifest = WriteNumberedStore(o, 3000, 100, disk);
  ASSERT_TRUE(manifest.ok());
  std::int64_t kept = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory_))
    kept += static_cast<std::int64_t>(file.file_size());
  EXPECT_GE(EstimateStoreBytes(o, 3000), kept);
  EXPECT_LE(EstimateStoreBytes(o, 3000), 2 * kept);
}

TEST_F(StoreDiskTest, FullDiskAtAnyByteIsResourceExhaustedAndLeavesNothing) {
  TestDisk large(std::int64_t{1} << 40, std::int64_t{1} << 40);
  ASSERT_TRUE(WriteNumberedStore(Options(), 400, 50, large).ok());
  std::filesystem::remove_all(directory_);
  for (std::int64_t accepts = 0; accepts < large.written(); accepts += large.written() / 13) {
    TestDisk disk(std::int64_t{1} << 40, accepts);
    const auto status = WriteNumberedStore(Options(), 400, 50, disk).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << accepts << " " << status;
    EXPECT_TRUE(ScratchIsEmpty()) << accepts;
  }
}

TEST_F(StoreDiskTest, SpaceThatVanishedIsNoticedBeforeTheShardsAreWritten) {
  TestDisk disk(1000, std::int64_t{1} << 40);
  EXPECT_EQ(WriteNumberedStore(Options(), 400, 50, disk).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(ScratchIsEmpty());
}

}  // namespace
}  // namespace sae::data
