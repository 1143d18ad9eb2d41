// What a store does when the disk is full, before and while it is written.
#include <gmock/gmock.h>

#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

/// The real file system with a given number of free bytes, and writes that fail after a number of bytes.
class SmallDisk final : public Env {
 public:
  explicit SmallDisk(std::int64_t free, std::int64_t accepts) : free_(free), accepts_(accepts) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    SAE_ASSIGN_OR_RETURN(auto file, RealEnv().Create(path));
    return std::make_unique<File>(std::move(file), *this);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override {
    SAE_ASSIGN_OR_RETURN(auto file, RealEnv().OpenForAppend(path));
    return std::make_unique<File>(std::move(file), *this);
  }
  absl::StatusOr<std::string> Read(const std::string& path) override { return RealEnv().Read(path); }
  absl::Status Rename(const std::string& a, const std::string& b) override { return RealEnv().Rename(a, b); }
  absl::Status SyncDirectory(const std::string& path) override { return RealEnv().SyncDirectory(path); }
  absl::Status MakeDirectories(const std::string& path) override { return RealEnv().MakeDirectories(path); }
  absl::Status RemoveAll(const std::string& path) override { return RealEnv().RemoveAll(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override { return RealEnv().List(path); }
  bool Exists(const std::string& path) override { return RealEnv().Exists(path); }
  absl::StatusOr<std::int64_t> FreeBytes(const std::string&) override { return free_; }
  std::int64_t written() const { return written_; }

 private:
  class File final : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, SmallDisk& disk) : file_(std::move(file)), disk_(disk) {}
    absl::Status Append(std::span<const std::byte> data) override {
      disk_.written_ += static_cast<std::int64_t>(data.size());
      if (disk_.written_ > disk_.accepts_) return absl::ResourceExhaustedError("cannot write: No space left on device");
      return file_->Append(data);
    }
    absl::Status Sync() override { return file_->Sync(); }
    absl::Status Close() override { return file_->Close(); }

   private:
    std::unique_ptr<WritableFile> file_;
    SmallDisk& disk_;
  };

  std::int64_t free_, accepts_, written_ = 0;
};

class StoreDiskTest : public ScratchTest {
 protected:
  StoreWriterOptions Options() const {
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = 8;
    o.dtype = DType::kF32;
    o.memory_bytes = 2000;
    return o;
  }
};

TEST_F(StoreDiskTest, RefusesBeforeItStartsWhenTheRowsWillNotFit) {
  StoreWriterOptions o = Options();
  o.expected_rows = 1'000'000;
  SmallDisk disk(std::int64_t{30} << 20, 0);
  const auto status = StoreWriter::Create(o, disk).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr(directory_));
  EXPECT_THAT(Message(status), HasSubstr("1000000 rows"));
  EXPECT_TRUE(ScratchIsEmpty());
}

TEST_F(StoreDiskTest, EstimateCoversWhatIsWritten) {
  StoreWriterOptions o = Options();
  o.expected_rows = 3000;
  SmallDisk disk(std::int64_t{1} << 40, std::int64_t{1} << 40);
  auto manifest = WriteNumberedStore(o, 3000, 100, disk);
  ASSERT_TRUE(manifest.ok());
  std::int64_t kept = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory_)) kept += static_cast<std::int64_t>(file.file_size());
  EXPECT_GE(EstimateStoreBytes(o, 3000), kept);
  EXPECT_LE(EstimateStoreBytes(o, 3000), 2 * kept);
}

TEST_F(StoreDiskTest, FullDiskAtAnyByteIsResourceExhaustedAndLeavesNothing) {
  SmallDisk large(std::int64_t{1} << 40, std::int64_t{1} << 40);
  ASSERT_TRUE(WriteNumberedStore(Options(), 400, 50, large).ok());
  std::filesystem::remove_all(directory_);
  for (std::int64_t accepts = 0; accepts < large.written(); accepts += large.written() / 23) {
    SmallDisk disk(std::int64_t{1} << 40, accepts);
    const auto status = WriteNumberedStore(Options(), 400, 50, disk).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << accepts << " " << status;
    EXPECT_TRUE(ScratchIsEmpty()) << accepts;
  }
}

TEST_F(StoreDiskTest, SpaceThatVanishedIsNoticedBeforeTheShardsAreWritten) {
  SmallDisk disk(1000, std::int64_t{1} << 40);
  EXPECT_EQ(WriteNumberedStore(Options(), 400, 50, disk).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(ScratchIsEmpty());
}

}  // namespace
}  // namespace sae::data
