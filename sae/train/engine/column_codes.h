#pragma once
// The codes of all ranks' latents on every rank, for a decoder cut by columns: winners are
// exchanged as (global id, value) and lie in ascending global id inside a token, the same at every
// number of ranks. Collective over the shards. Keeps its buffers. Not thread-safe. Bytes a rank
// contributes: 8 an entry of its own (float32), 4 a token. Source: spec numerics.md 2,
// performance.md (f).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/codes.h"
#include "sae/train/engine/context.h"

namespace sae::train {

template <class T>
class ColumnCodes {
 public:
  explicit ColumnCodes(const Context& context) : context_(context) {}

  /// `own`: ids local to the shard; `f`: own.nnz() decode weights. Not `finite`: this rank has no
  /// codes, and finite() becomes false on all.
  [[nodiscard]] absl::Status Gather(const kernels::Codes<T>& own, const T* f, bool finite,
                                    Phases* phases);
  /// Other values of the same entries: own's in, those of all ranks out, in the order of codes().
  [[nodiscard]] absl::Status GatherValues(const T* own, std::vector<T>* out, Phases* phases);
  /// Of values in the order of codes(), those of this rank's own entries.
  void Own(const T* all, T* own) const;

  bool finite() const { return finite_; }
  /// ids are global; `values` holds f.
  const kernels::Codes<T>& codes() const { return codes_; }
  const T* f() const { return codes_.values.data(); }
  /// By global latent.
  const kernels::LatentIndex& index() const { return index_; }

 private:
  [[nodiscard]] absl::Status GatherCounts(const kernels::Codes<T>& own, bool finite);
  void Merge();

  const Context& context_;
  kernels::Codes<T> codes_;
  kernels::LatentIndex index_;
  bool finite_ = true;
  std::vector<std::int32_t> counts_;    // of each rank: entries of each token, then finite
  std::vector<std::int64_t> sizes_;     // entries of each rank
  std::vector<std::int64_t> starts_;    // rank x token: first received entry
  std::vector<std::int32_t> ids_;       // own, global
  std::vector<std::int32_t> received_;  // in rank order
  std::vector<T> values_;               // likewise
  std::vector<std::int64_t> place_;     // of each received entry in codes_
  std::int64_t own_first_ = 0, own_size_ = 0;
};

}  // namespace sae::train
