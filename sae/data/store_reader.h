#pragma once
// Reads an activation store. Open checks the manifest and every shard's header and length, so that
// a store that is cut short is refused before any work starts; content hashes are checked at open,
// or once for each shard when it is first read. Immutable after Open; const members are
// thread-safe. Errors: NOT_FOUND (no store there), DATA_LOSS (cut short, hash, non-finite rows,
// contradictions: names shard and offset or row), OUT_OF_RANGE (rows that are not there),
// FAILED_PRECONDITION (targets of a store that has none), UNIMPLEMENTED (newer format).

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/data/shard_writer.h"
#include "sae/data/store_manifest.h"
#include "sae/data/text_file.h"

namespace sae::data {

enum class Split { kTraining, kHeldout };
enum class StoreVerify { kLazily, kAtOpen };
/// What a row is made of: the activations x, or for a transcoder [x | y] with the targets y.
enum class RowKind { kActivations, kWithTargets };
/// The two tensors of values in a shard.
enum class StoreTensor { kActivations, kTargets };

class ActivationStore {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<ActivationStore>> Open(
      const std::string& directory, StoreVerify verify = StoreVerify::kLazily);

  const std::string& directory() const { return directory_; }
  const StoreManifest& manifest() const { return manifest_; }
  /// HashToText of XXH3 of manifest.json's bytes: names the content of the whole store.
  const std::string& manifest_hash() const { return manifest_hash_; }
  std::int64_t d() const { return manifest_.d; }
  /// Width of the targets; 0 = there are none.
  std::int64_t target_d() const { return manifest_.target_d; }
  /// Values of a row: d, or d + target_d.
  std::int64_t width(RowKind kind) const {
    return kind == RowKind::kActivations ? d() : d() + target_d();
  }
  /// OK where the store can give such rows.
  [[nodiscard]] absl::Status CheckHas(RowKind kind) const;
  std::int64_t rows(Split split) const {
    return split == Split::kTraining ? manifest_.rows : manifest_.heldout_rows;
  }
  std::int64_t row_bytes(StoreTensor tensor = StoreTensor::kActivations) const {
    return tensor_width(tensor) * SizeOf(manifest_.dtype);
  }
  const std::vector<StoreShard>& shards(Split split) const {
    return split == Split::kTraining ? manifest_.shards : manifest_.heldout_shards;
  }

  /// Rows [first, first + out.size() / width(kind)) in written order, as float32.
  [[nodiscard]] absl::Status ReadRows(Split split, std::int64_t first, std::span<float> out,
                                      RowKind kind = RowKind::kActivations) const;
  /// A column of the same rows: "token_ids", "positions" or "documents"; NOT_FOUND where the store
  /// has none.
  [[nodiscard]] absl::Status ReadColumn(Split split, const std::string& column, std::int64_t first,
                                        std::span<std::int32_t> out) const;
  /// Stored bytes of rows of one shard (index into shards(split)), not converted and not checked
  /// for NaN.
  [[nodiscard]] absl::Status ReadShardBytes(Split split, std::int64_t shard, std::int64_t first_row,
                                            std::span<std::byte> out,
                                            StoreTensor tensor = StoreTensor::kActivations) const;
  /// Converts what ReadShardBytes gave; DATA_LOSS names shard and row of a value that is not
  /// finite.
  [[nodiscard]] absl::Status Decode(Split split, std::int64_t shard, std::int64_t first_row,
                                    std::span<const std::byte> bytes, std::span<float> out,
                                    StoreTensor tensor = StoreTensor::kActivations) const;
  /// The texts in file order until `visit` returns false; NOT_FOUND where the store has none.
  [[nodiscard]] absl::Status ReadTexts(const std::function<bool(StoreText)>& visit) const;

  using Progress = std::function<void(std::int64_t done_bytes, std::int64_t total_bytes)>;
  /// Hash of every file, every value finite, and the manifest's statistics against the rows.
  [[nodiscard]] absl::Status VerifyAll(const Progress& progress = nullptr) const;

 private:
  struct ShardFile {
    std::string path;
    std::int64_t first_row = 0;  ///< in its split
    std::int64_t rows = 0;
    std::int64_t data_offset = 0;    ///< of `activations` in the file
    std::int64_t target_offset = 0;  ///< of `targets`, where there are any
    std::int64_t offset(StoreTensor tensor) const {
      return tensor == StoreTensor::kActivations ? data_offset : target_offset;
    }
    std::string hash;
    mutable std::atomic<bool> verified{false};
  };

  ActivationStore() = default;
  std::int64_t tensor_width(StoreTensor tensor) const {
    return tensor == StoreTensor::kActivations ? manifest_.d : manifest_.target_d;
  }
  /// Rows of one shard, into rows of `stride` values from `out` on.
  absl::Status ReadPart(Split split, std::int64_t shard, std::int64_t from, std::int64_t n,
                        StoreTensor tensor, float* out, std::int64_t stride) const;
  absl::Status OpenSplit(Split split, std::vector<std::unique_ptr<ShardFile>>& files);
  const std::vector<std::unique_ptr<ShardFile>>& files(Split split) const {
    return split == Split::kTraining ? training_ : heldout_;
  }
  absl::Status VerifyShard(const ShardFile& shard) const;
  /// Of the training rows, against their columns' sums and sums of squares.
  absl::Status CheckStatistics(const std::string& prefix, const std::vector<double>& mean,
                               double mean_squared_norm, std::span<const double> sums,
                               std::span<const double> squares) const;
  /// Texts and extras.
  absl::Status VerifyOthers() const;
  absl::Status CheckRange(Split split, std::int64_t first, std::int64_t count) const;
  /// Calls fn(shard index, first row in the shard, rows, rows before it) for the parts of a range.
  absl::Status ForEachPart(Split split, std::int64_t first, std::int64_t count,
                           const std::function<absl::Status(std::int64_t, std::int64_t,
                                                            std::int64_t, std::int64_t)>& fn) const;

  std::string directory_;
  StoreManifest manifest_;
  std::string manifest_hash_;
  RowLayout layout_;
  std::vector<std::unique_ptr<ShardFile>> training_, heldout_;
};

}  // namespace sae::data
