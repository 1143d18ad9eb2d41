#pragma once
// Writes one split (training or held-out) of a store as safetensors shards: all activations of a
// shard, then its columns, since the container allows no gaps. One thread at a time. Errors: those
// of Env.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/data/hashed_file.h"
#include "sae/data/store_manifest.h"

namespace sae::data {

/// How a row lies in a record: activations in the store's dtype, then token id, position, document
/// as I32 where the store has them.
struct RowLayout {
  std::int64_t d = 0;
  DType dtype = DType::kBf16;
  bool has_tokens = false;
  bool has_documents = false;

  std::int64_t activation_bytes() const { return d * SizeOf(dtype); }
  std::vector<std::string> columns() const;
  std::int64_t bytes() const {
    return activation_bytes() + 4 * static_cast<std::int64_t>(columns().size());
  }
};

class ShardWriter {
 public:
  /// Files are DIRECTORY/PREFIX-00000.safetensors and so on. Exactly `total_rows` calls of Add
  /// follow.
  ShardWriter(Env& env, std::string directory, std::string prefix, RowLayout layout,
              std::int64_t total_rows, std::int64_t shard_bytes);
  [[nodiscard]] absl::Status Add(std::span<const std::byte> record);
  const std::vector<StoreShard>& shards() const { return shards_; }

 private:
  absl::Status BeginShard();
  absl::Status EndShard();

  Env& env_;
  const std::string directory_, prefix_;
  const RowLayout layout_;
  const std::int64_t rows_per_shard_;
  std::int64_t rows_left_;
  std::int64_t shard_rows_left_ = 0;
  std::unique_ptr<HashedFile> file_;
  std::vector<std::vector<std::byte>> columns_;
  std::vector<StoreShard> shards_;
};

}  // namespace sae::data
