#pragma once
// Writes an activation store (docs/formats/store.md) in bounded memory. Rows are shuffled when
// written: the order is that of the keys HashCounter(seed, row), so it is f(seed, row) alone,
// whatever the memory budget or the batches of Append. Two passes: rows go to bucket files by range
// of key, then each bucket is sorted in memory (the "distributed shuffle" on one machine). All
// files lie in "DIR.partial" until Finish renames it to DIR; a writer that is destroyed before that
// removes it, and what a killed one left is removed by the next. One thread at a time.
// Errors: INVALID_ARGUMENT (options, widths, non-finite or unrepresentable values: names the row),
// ALREADY_EXISTS (DIR is there), FAILED_PRECONDITION (another process writes it),
// RESOURCE_EXHAUSTED (disk), and no call is allowed after one that failed except the destructor.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/safetensors.h"
#include "sae/base/status.h"
#include "sae/data/store_manifest.h"
#include "sae/data/text_file.h"

namespace sae::data {

struct StoreWriterOptions {
  std::string directory;
  std::int64_t d = 0;
  std::int64_t target_d = 0;       ///< width of the targets beside each row; 0 = none
  DType dtype = DType::kBf16;      ///< kBf16, kF16 or kF32
  std::uint64_t seed = 0;          ///< of the shuffle and of the held-out choice
  double heldout_fraction = 0.02;  ///< in [0, 1)
  bool shuffled = true;            ///< false: rows stay in the order of Append
  StoreOrigin source;
  std::int64_t shard_bytes = std::int64_t{1} << 30;
  std::int64_t memory_bytes = std::int64_t{256} << 20;  ///< for the shuffle
  /// For the disk check at Create; 0 = unknown, not checked.
  std::int64_t expected_rows = 0;
  std::int64_t expected_text_bytes = 0;
  /// Called during Finish with rows written and rows in all.
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// Peak bytes on disk of a store of `rows` rows, shuffle temporaries included.
std::int64_t EstimateStoreBytes(const StoreWriterOptions& options, std::int64_t rows);

/// One batch of rows. `token_ids`, `positions` and `documents` have one value a row, or are empty;
/// which of them are there must be the same for every batch of a store. Borrowed during Append.
struct StoreRows {
  std::span<const float> activations;       ///< [rows, d]
  std::span<const std::int32_t> token_ids;  ///< the token at whose place the row was taken
  std::span<const std::int32_t> positions;  ///< index of that token in its document's token ids
  std::span<const std::int32_t> documents;  ///< id given to AddText
  std::span<const float> targets = {};      ///< [rows, target_d], of transcoders
};

class StoreWriter {
 public:
  /// `env` must outlive the writer.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<StoreWriter>> Create(
      StoreWriterOptions options, Env& env = RealEnv());
  ~StoreWriter();
  StoreWriter(const StoreWriter&) = delete;
  StoreWriter& operator=(const StoreWriter&) = delete;

  [[nodiscard]] absl::Status Append(const StoreRows& rows);
  [[nodiscard]] absl::Status AddText(const StoreText& text);
  /// Writes a file of its own beside the shards, hashed in the manifest: what belongs to the rows
  /// but is not one.
  [[nodiscard]] absl::Status AddTensors(const std::string& name,
                                        const std::vector<TensorToWrite>& tensors);
  /// Rows appended so far.
  std::int64_t rows() const;
  /// May be changed until Finish: counts of dropped rows are known late.
  StoreOrigin& source();
  /// Writes shards and manifest, and gives the directory its name. INVALID_ARGUMENT when there are
  /// no training rows. Returns the manifest as written.
  [[nodiscard]] absl::StatusOr<StoreManifest> Finish();
  /// Removes everything that was written. Also what the destructor does when Finish did not
  /// succeed.
  void Abandon();

 private:
  class Impl;
  explicit StoreWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae::data
