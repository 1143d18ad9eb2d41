#pragma once
// The step while so many latents fire that dense products beat gathers: forward and backward of one
// block of tokens at a time, gradient matrices accumulated in block order. The same formulas as the
// sparse path; which of the two runs is a function of the state alone (entries of the last step),
// so a resumed run takes the same one. relu_l1: five products (encode, decode, d_i . g, dW_dec,
// dW_enc); gated: seven, the gate's reconstruction and d_i . a beside them. But for the decode,
// which sums over latents, a thread takes all products of a group of latents, tokens of the block x
// group, while they are in its cache. Memory: the codes of a block, gated: and h, of 16 MiB each
// (or 64 tokens); the two gradient matrices; a bit per token and latent; one or two tokens x group
// a thread. Collective. Not thread-safe. Sources: spec algorithms.md 0.2, 1, 2; numerics.md 7.

#include <cstdint>
#include <memory>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/dense_rule.h"

namespace sae::train {

template <class T>
class DenseStep {
 public:
  DenseStep(const Context& context, std::unique_ptr<DenseRule<T>> rule);

  struct Input {
    const Batch<T>* batch = nullptr;  ///< of the config's size
    const model::Parameters<T>* parameters = nullptr;
    const T* c = nullptr;      ///< folded biases, [count]
    const T* norms = nullptr;  ///< |W_dec_i|, [count]; where a penalty needs them
    Skip<T>* skip = nullptr;
    double rho = 0;     ///< R(e) = rho sum e^2
    double lambda = 0;  ///< sparsity coefficient in force
  };
  struct Sums {
    double squared_error = 0;  ///< sum |x_hat - y'|^2, the same on every rank
    std::int64_t active = 0;   ///< codes f > 0 of this shard
    std::int64_t entries = 0;  ///< what the sparse step would gather: gated: open gates
    PenaltyTerms penalty;      ///< gated: with the gate's reconstruction
  };

  /// Fills x_hat and g (tokens x d_out), the vectors of `gradients`, the matrices, and fired().
  [[nodiscard]] absl::StatusOr<Sums> ForwardBackward(const Input& input, T* x_hat, T* g,
                                                     LatentGradients<T>* gradients, Phases* phases);

  /// dL/dW_enc [count, d] and dL/dW_dec [count, d_out] of this shard; not projected.
  T* w_enc_gradient() { return w_enc_gradient_.data(); }
  T* w_dec_gradient() { return w_dec_gradient_.data(); }
  /// Did the latent fire in this batch.
  bool fired(std::int64_t latent) const { return active_[static_cast<std::size_t>(latent)] > 0; }
  bool active(std::int64_t token, std::int64_t latent) const {
    const std::uint32_t word = mask_[static_cast<std::size_t>((token >> 5) * count_ + latent)];
    return ((word >> (token & 31)) & 1U) != 0;
  }

 private:
  /// Tokens [first, first + tokens) of the batch.
  struct Block {
    std::int64_t first = 0;
    std::int64_t tokens = 0;
  };

  void Begin(const Input& input, T* x_hat, Phases* phases);
  [[nodiscard]] absl::Status Forward(const Input& input, Block block, T* x_hat, T* g,
                                     Phases* phases);
  void Backward(const Input& input, Block block, const T* g, Phases* phases);
  [[nodiscard]] absl::Status Decode(const Input& input, Block block, T* out, T* error,
                                    double* squares, Phases* phases);
  void Encode(const Input& input, Block block);
  void WriteCodes(Block block, DenseRange range);
  void Finish(const Input& input, const LatentGradients<T>& gradients);
  void BackwardOf(const Input& input, Block block, DenseRange range, const T* g, int worker);
  /// work(range, worker) for all groups of latents.
  template <class Work>
  void ForGroups(const Work& work);
  /// What Codes reads: h, or the product itself, which the codes overwrite.
  T* h() { return h_.empty() ? codes_.data() : h_.data(); }

  const Context& context_;
  const std::unique_ptr<DenseRule<T>> rule_;
  const std::int64_t count_;
  const std::int64_t block_;                         // tokens at a time
  const std::int64_t group_;                         // latents at a time
  kernels::AlignedVector<T> h_;                      // block x count; gated only
  kernels::AlignedVector<T> codes_;                  // block x count: f; gated: ReLU(pi) before
  std::vector<kernels::AlignedVector<T>> u_, v_;     // by worker, block x group; v_ gated only
  kernels::AlignedVector<T> gate_hat_, gate_error_;  // block x d_out; gated only
  kernels::AlignedVector<T> partial_;                // of GemmAdd
  kernels::AlignedVector<T> w_enc_gradient_, w_dec_gradient_;
  std::vector<std::int64_t> active_;  // codes f > 0, by latent
  std::vector<std::uint32_t> mask_;   // batch / 32 x count
  double squared_error_ = 0, gate_squared_error_ = 0;
};

}  // namespace sae::train
