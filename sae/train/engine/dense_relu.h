#pragma once
// The step of ReLU-L1 while most latents fire, when dense products beat gathers: forward and
// backward of one block of tokens at a time, codes and deltas of a block (16 MiB each, or 512
// tokens) in memory, gradient matrices accumulated in block order. The same formulas as the sparse
// path; which of the two runs is a function of the state alone (density of the last step), so a
// resumed run takes the same one. Collective. Not thread-safe. Sources: spec algorithms.md
// 0.2, 1.1; numerics.md 7.

#include <cstdint>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/context.h"

namespace sae::train {

/// Share of latents that fire above which the dense step is the faster one; measured by
/// bench/step_bench.
inline constexpr double kDenseDensity = 0.15;

template <class T>
class DenseRelu {
 public:
  explicit DenseRelu(const Context& context);

  struct Input {
    const T* x = nullptr;  ///< tokens x d, raw units
    T scale = 1;           ///< 1 / S
    std::int64_t tokens = 0;
    const T* c = nullptr;  ///< folded biases, one a latent
    double rho = 0;        ///< R(e) = rho sum e^2
    T l1 = 0;              ///< dL1 / df = lambda / B
    const model::Parameters<T>* parameters = nullptr;
  };
  struct Sums {
    double squared_error = 0;  ///< sum |x_hat - x'|^2, the same on every rank
    double l1 = 0;             ///< sum f of this shard
    std::int64_t active = 0;   ///< entries f > 0 of this shard
  };

  /// Fills x_hat and g (tokens x d), gradient() and fired().
  [[nodiscard]] absl::StatusOr<Sums> ForwardBackward(const Input& input, T* x_hat, T* g,
                                                     Phases* phases);

  /// dL/dW_enc, dL/dW_dec [count, d] and dL/db_enc [count] of this shard; not projected.
  T* w_enc_gradient() { return w_enc_gradient_.data(); }
  T* w_dec_gradient() { return w_dec_gradient_.data(); }
  kernels::AlignedVector<T>& b_enc_gradient() { return b_enc_gradient_; }
  /// One value a latent: did it fire in this batch.
  const std::vector<std::uint8_t>& fired() const { return fired_; }
  bool active(std::int64_t token, std::int64_t latent) const {
    const std::uint64_t word = mask_[static_cast<std::size_t>(latent * words_ + (token >> 6))];
    return ((word >> (token & 63)) & 1U) != 0;
  }

 private:
  [[nodiscard]] absl::Status Reconstruct(const Input& input, std::int64_t token,
                                         std::int64_t tokens, T* x_hat, Phases* phases);
  void Activate(const Input& input, std::int64_t token, std::int64_t tokens);
  void CountActive(std::int64_t token, std::int64_t tokens);
  void LatentGradients(const Input& input, std::int64_t tokens, const T* g);
  void Accumulate(const kernels::AlignedVector<T>& codes_t, std::int64_t tokens, const T* rows,
                  T scale, bool first, kernels::AlignedVector<T>* gradient);
  void FinishGradient(const Input& input);

  const Context& context_;
  const std::int64_t count_;
  const std::int64_t block_;             // tokens at a time
  const std::int64_t words_;             // 64-bit words of mask_ per latent
  kernels::AlignedVector<T> f_;          // block x count
  kernels::AlignedVector<T> f_t_;        // count x block
  kernels::AlignedVector<T> delta_t_;    // count x block
  kernels::AlignedVector<T> decoder_t_;  // d x count
  kernels::AlignedVector<T> rows_t_;     // d x block
  kernels::AlignedVector<T> product_;    // count x d
  kernels::AlignedVector<T> w_enc_gradient_, w_dec_gradient_, b_enc_gradient_;
  std::vector<double> bias_sums_, l1_sums_;
  std::vector<std::int64_t> active_;
  std::vector<std::uint8_t> fired_;
  std::vector<std::uint64_t> mask_;  // count x words_
};

}  // namespace sae::train
