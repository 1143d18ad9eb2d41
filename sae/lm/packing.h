#pragma once
// Puts documents into contexts. `mask`: documents stand side by side, each attends to itself alone,
// and what is longer than a context is cut. `concat`: documents and separators form one stream that
// is cut into contexts, attention crosses documents, as peers do. `none`: a context for each
// document; the rows are those of `mask`, since there is no padding to save. Not thread-safe.
// Errors: INVALID_ARGUMENT for an unknown name.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/language_model.h"

namespace sae::lm {

enum class Packing { kMask, kConcat, kNone };
std::string PackingName(Packing packing);
[[nodiscard]] absl::StatusOr<Packing> ParsePacking(const std::string& name);

/// Tokens to run, and for each where it came from.
struct PackedBatch {
  TokenBatch batch;
  std::vector<std::int32_t> documents;  ///< the separator counts to the document before it
  std::vector<std::int32_t> positions;  ///< index in the document's tokens; -1 for a separator
  void Clear();
};

class Packer {
 public:
  /// `separator` < 0: none is put between documents.
  Packer(Packing packing, std::int64_t context, std::int32_t separator);
  /// Appends a document (which may have no tokens) to `out`.
  void Add(std::int32_t document, std::span<const std::int32_t> ids, PackedBatch& out);
  /// True when `out` may be run: a context that is still being filled must not be cut off.
  bool AtBoundary() const { return packing_ != Packing::kConcat || filled_ == 0; }
  /// Tokens of the open context, at the end of `out`.
  std::int64_t filled() const { return filled_; }

 private:
  void Push(std::int32_t token, std::int32_t document, std::int32_t position, PackedBatch& out);

  Packing packing_;
  std::int64_t context_;
  std::int32_t separator_;
  std::int64_t filled_ = 0;  ///< of the open context
};

/// Moves the tokens of an unfinished context from the end of `from` into an empty batch.
PackedBatch TakeTail(PackedBatch& from, std::int64_t tokens);

}  // namespace sae::lm
