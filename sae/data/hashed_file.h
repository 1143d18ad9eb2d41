#pragma once
// A file that is written front to back while its XXH3 and length are counted. One thread at a time.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/hash.h"
#include "sae/base/status.h"

namespace sae::data {

class HashedFile {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<HashedFile>> Create(Env& env,
                                                                          const std::string& path);
  /// Buffers up to 1 MiB.
  [[nodiscard]] absl::Status Append(std::span<const std::byte> data);
  /// Writes what is buffered, syncs and closes. `hash` and `bytes` are final after it.
  [[nodiscard]] absl::Status Finish();
  std::string hash() const { return HashToText(hash_.Digest()); }
  std::int64_t bytes() const { return bytes_; }

 private:
  explicit HashedFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  absl::Status Flush();

  std::unique_ptr<WritableFile> file_;
  std::vector<std::byte> buffer_;
  Xxh3Stream hash_;
  std::int64_t bytes_ = 0;
};

}  // namespace sae::data
