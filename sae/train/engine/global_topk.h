#pragma once
// Exact TopK over all ranks: each offers its min(k, latents offered) best candidates, all-gathered,
// and keeps those of its own that are among the k first (larger value, then lower global latent).
// Collective: all ranks call Select together. Keeps its buffers. Not thread-safe. Source: spec
// algorithms.md 3.9; exact because no rank can have more winners than it offers.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/encode.h"
#include "sae/train/engine/context.h"

namespace sae::train {

template <class T>
class GlobalTopK {
 public:
  GlobalTopK(comm::Communicator& communicator, ThreadPool& pool)
      : communicator_(communicator), pool_(pool) {}

  /// `offered`: how many latents each rank's input holds (its subset, or its shard). `codes` gets
  /// this rank's positive winners. `finite` becomes false where a pre-activation of this rank was
  /// NaN; it then offers nothing, and the caller lets the loss show it.
  [[nodiscard]] absl::Status Select(const kernels::EncodeInput<T>& input, std::int64_t k,
                                    std::int64_t shard_latents,
                                    std::span<const std::int64_t> offered,
                                    kernels::EncodeWorkspace<T>* workspace,
                                    kernels::Codes<T>* codes, bool* finite, Phases* phases);
  /// Whether Narrow may follow a Select: costs a sort of each token's winners. Off at first.
  void set_narrows(bool narrows) { narrows_ = narrows; }

  /// Codes of the k first of the last Select (k at most that one's), from its candidates.
  void Narrow(std::int64_t k, std::int64_t shard_latents, std::int64_t first_latent,
              kernels::Codes<T>* codes, Phases* phases);

 private:
  void Encode(const kernels::EncodeInput<T>& input, std::int64_t width,
              kernels::EncodeWorkspace<T>* workspace, bool* finite);
  [[nodiscard]] absl::Status Exchange(std::int64_t tokens, std::int64_t k,
                                      std::span<const std::int64_t> offered);

  comm::Communicator& communicator_;
  ThreadPool& pool_;
  bool narrows_ = false;
  kernels::TopK<T> own_;
  std::vector<T> values_;
  std::vector<std::int32_t> ids_;
  std::vector<std::int64_t> counts_;
  std::vector<kernels::Candidates<T>> shards_;
  std::vector<std::int32_t> winners_;
};

}  // namespace sae::train
