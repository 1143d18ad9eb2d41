#pragma once
// Helpers of the store's tests: scratch folders and stores whose every value tells its row.

#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sae/data/store_reader.h"
#include "sae/data/store_writer.h"

namespace sae::data {

class ScratchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    scratch_ = ::testing::TempDir() + "/" + info->test_suite_name() + "_" + info->name();
    std::filesystem::remove_all(scratch_);
    std::filesystem::create_directories(scratch_);
    directory_ = scratch_ + "/store";
  }
  void TearDown() override { std::filesystem::remove_all(scratch_); }

  /// Whether the scratch folder is empty: no store and no temporaries.
  bool ScratchIsEmpty() const { return std::filesystem::is_empty(scratch_); }

  std::string scratch_, directory_;
};

/// The real file system without waiting for the disk, with a given number of free bytes, and writes
/// that fail after a number of bytes.
class TestDisk final : public Env {
 public:
  explicit TestDisk(std::int64_t free = std::int64_t{1} << 50,
                    std::int64_t accepts = std::int64_t{1} << 50)
      : free_(free), accepts_(accepts) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    SAE_ASSIGN_OR_RETURN(auto file, RealEnv().Create(path));
    return std::make_unique<File>(std::move(file), *this);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override {
    SAE_ASSIGN_OR_RETURN(auto file, RealEnv().OpenForAppend(path));
    return std::make_unique<File>(std::move(file), *this);
  }
  absl::StatusOr<std::string> Read(const std::string& path) override {
    return RealEnv().Read(path);
  }
  absl::Status Rename(const std::string& a, const std::string& b) override {
    return RealEnv().Rename(a, b);
  }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::Status MakeDirectories(const std::string& path) override {
    return RealEnv().MakeDirectories(path);
  }
  absl::Status RemoveAll(const std::string& path) override { return RealEnv().RemoveAll(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return RealEnv().List(path);
  }
  bool Exists(const std::string& path) override { return RealEnv().Exists(path); }
  absl::StatusOr<std::int64_t> FreeBytes(const std::string&) override { return free_; }
  std::int64_t written() const { return written_; }

 private:
  class File final : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, TestDisk& disk)
        : file_(std::move(file)), disk_(disk) {}
    absl::Status Append(std::span<const std::byte> data) override {
      if ((disk_.written_ += static_cast<std::int64_t>(data.size())) > disk_.accepts_)
        return absl::ResourceExhaustedError("cannot write: No space left on device");
      return file_->Append(data);
    }
    absl::Status Sync() override { return absl::OkStatus(); }
    absl::Status Close() override { return file_->Close(); }

   private:
    std::unique_ptr<WritableFile> file_;
    TestDisk& disk_;
  };

  std::int64_t free_, accepts_;
  std::atomic<std::int64_t> written_{0};  // ranks of a test share a disk
};

/// Row r is (r, r + 0.25, r + 0.5, ...): exact in f32, and in bf16 for small r where d = 1.
inline std::vector<float> NumberedRows(std::int64_t first, std::int64_t count, std::int64_t d) {
  std::vector<float> rows(static_cast<std::size_t>(count * d));
  for (std::int64_t i = 0; i < count * d; ++i) {
    rows[static_cast<std::size_t>(i)] =
        static_cast<float>(first + i / d) + 0.25F * static_cast<float>(i % d);
  }
  return rows;
}

/// A store of numbered rows without tokens; `batch` rows an Append.
inline absl::StatusOr<StoreManifest> WriteNumberedStore(const StoreWriterOptions& options,
                                                        std::int64_t rows, std::int64_t batch,
                                                        Env& env) {
  SAE_ASSIGN_OR_RETURN(auto writer, StoreWriter::Create(options, env));
  for (std::int64_t first = 0; first < rows; first += batch) {
    const auto values = NumberedRows(first, std::min(batch, rows - first), options.d);
    SAE_RETURN_IF_ERROR(writer->Append({values, {}, {}, {}}));
  }
  return writer->Finish();
}

inline absl::StatusOr<StoreManifest> WriteNumberedStore(const StoreWriterOptions& options,
                                                        std::int64_t rows, std::int64_t batch = 7) {
  TestDisk disk;
  return WriteNumberedStore(options, rows, batch, disk);
}

/// The row numbers of a split in written order.
inline std::vector<std::int64_t> RowNumbers(const ActivationStore& store, Split split) {
  std::vector<float> rows(static_cast<std::size_t>(store.rows(split) * store.d()));
  EXPECT_TRUE(store.ReadRows(split, 0, rows).ok());
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < rows.size(); i += static_cast<std::size_t>(store.d())) {
    numbers.push_back(static_cast<std::int64_t>(rows[i]));
  }
  return numbers;
}

}  // namespace sae::data
