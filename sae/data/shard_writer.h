#pragma once
// Writes one split (training or held-out) of a store as safetensors shards: all activations of a
// shard, then its targets, then its columns, since the container allows no gaps. Targets wait in a
// temporary file of at most one shard. One thread at a time. Errors: those of Env.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/data/hashed_file.h"
#include "sae/data/store_manifest.h"

namespace sae::data {

/// How a row lies in a record: activations and targets in the store's dtype, then token id,
/// position, document as I32; each where the store has it.
struct RowLayout {
  std::int64_t d = 0;
  std::int64_t target_d = 0;  ///< 0 = no targets
  DType dtype = DType::kBf16;
  bool has_tokens = false;
  bool has_documents = false;

  std::int64_t activation_bytes() const { return d * SizeOf(dtype); }
  std::vector<std::string> columns() const;
  std::int64_t target_bytes() const { return target_d * SizeOf(dtype); }
  std::int64_t bytes() const {
    return activation_bytes() + target_bytes() + 4 * static_cast<std::int64_t>(columns().size());
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
  absl::Status AppendTargets();
  std::string TargetsPath() const { return directory_ + "/" + prefix_ + "-targets.tmp"; }

  Env& env_;
  const std::string directory_, prefix_;
  const RowLayout layout_;
  const std::int64_t rows_per_shard_;
  std::int64_t rows_left_;
  std::int64_t shard_rows_left_ = 0;
  std::unique_ptr<HashedFile> file_;
  std::unique_ptr<HashedFile> targets_;  ///< of this shard, until it ends
  std::vector<std::vector<std::byte>> columns_;
  std::vector<StoreShard> shards_;
};

}  // namespace sae::data
