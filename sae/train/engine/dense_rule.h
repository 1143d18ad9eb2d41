#pragma once
// What the dense step asks an architecture, a row of latents at a time: codes from pre-activations,
// and how the loss's gradient comes back to them. The same formulas as Activation's, over all
// latents in place of entries. Rows of distinct latents may come from distinct threads; tokens come
// in order for each latent, so sums are the same for any number of threads. Owned by the dense
// step. Sources: spec algorithms.md 0.2, 1, 2, 3b.3.

#include <cstdint>
#include <span>

#include "sae/train/engine/activation.h"

namespace sae::train {

/// Local ids [first, last); row pointers point at `first`.
struct DenseRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

/// What a step knows before its first block.
template <class T>
struct DenseStart {
  std::int64_t tokens = 0;
  T scale = 1;               ///< pre-activations are scale * product + c
  const T* c = nullptr;      ///< [count]
  const T* norms = nullptr;  ///< |W_dec_i|, [count]; where a penalty needs them
  double lambda = 0;
};

template <class T>
class DenseRule {
 public:
  virtual ~DenseRule() = default;

  virtual void Begin(const DenseStart<T>& start) = 0;
  /// Whether there is a second reconstruction, from the gate: then Open and CloseGate are called.
  virtual bool gates() const { return false; }
  /// product -> h in place, and the gate's own codes.
  virtual void Open(DenseRange range, T* product, T* gate) {
    (void)range, (void)product, (void)gate;
  }
  /// Codes f, of `from`: the product, or h after Open. `from` may be f.
  virtual void Codes(DenseRange range, const T* from, T* f) = 0;
  /// u = direction . g on entry; dL/dz on return, or its part through f where gates().
  virtual void Backward(DenseRange range, const T* h, const T* f, T* u) = 0;
  /// v = direction . a, of the gate's reconstruction; completes u.
  virtual void CloseGate(DenseRange range, const T* h, const T* v, T* u) {
    (void)range, (void)h, (void)v, (void)u;
  }
  /// After the last block: the vectors of `gradients`. Collective.
  [[nodiscard]] virtual absl::StatusOr<PenaltyTerms> Finish(LatentGradients<T>* gradients,
                                                            Phases* phases) = 0;
  /// Entries the sparse step would have: codes f > 0, or open gates; of this shard's last step, by
  /// latent.
  virtual std::span<const std::int32_t> entries() const = 0;
};

}  // namespace sae::train
