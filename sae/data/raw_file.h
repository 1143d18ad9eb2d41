#pragma once
// Positioned reads that never deliver less than asked: a file that was cut short is an error with
// its name and offset, not a short buffer and not a SIGBUS as with a memory map. Thread-safe after
// Open. Errors: NOT_FOUND, PERMISSION_DENIED, DATA_LOSS (ends too early), INTERNAL.

#include <cstdint>
#include <span>
#include <string>

#include "sae/base/status.h"

namespace sae::data {

class RawFile {
 public:
  [[nodiscard]] static absl::StatusOr<RawFile> Open(const std::string& path);
  RawFile(RawFile&& other) noexcept;
  RawFile& operator=(RawFile&&) = delete;
  ~RawFile();
  std::int64_t size() const { return size_; }
  [[nodiscard]] absl::Status ReadAt(std::int64_t offset, std::span<std::byte> out) const;

 private:
  RawFile(int fd, std::int64_t size, std::string path)
      : fd_(fd), size_(size), path_(std::move(path)) {}
  int fd_;
  std::int64_t size_;
  std::string path_;
};

/// "xxh3:..." of a whole file, read in pieces.
[[nodiscard]] absl::StatusOr<std::string> HashFile(const std::string& path);

}  // namespace sae::data
