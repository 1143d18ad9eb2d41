#pragma once
// The step of ReLU-L1 while most latents fire, when dense products beat gathers: forward and backward of one
// block of tokens at a time, z and u of a block (not of the batch) in memory, gradient matrices accumulated in
// block order. The same formulas as the sparse path; which of the two runs is a function of the state alone
// (density of the last step), so a resumed run takes the same one. Collective. Not thread-safe.
// Sources: spec algorithms.md 0.2, 1.1; numerics.md 7.

#include <cstdint>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/parameters.h"
#include "sae/train/engine/context.h"

namespace sae::train {

/// Share of latents that fire above which the dense step is the faster one; measured by bench/step_bench.
inline constexpr double kDenseDensity = 0.10;

template <class T>
class DenseRelu {
 public:
  DenseRelu(const Context& context, std::int64_t batch);

  struct Input {
    const T* x = nullptr;               ///< tokens x d, raw units
    T scale = 1;                        ///< 1 / S
    std::int64_t tokens = 0;
    const T* c = nullptr;               ///< folded biases, one a latent
    T l1 = 0;                           ///< dL1 / df = lambda / B
    const model::Parameters<T>* parameters = nullptr;
  };
  struct Sums {
    double squared_error = 0;           ///< sum |x_hat - x'|^2, the same on every rank
    double l1 = 0;                      ///< sum f of this shard
    std::int64_t active = 0;            ///< entries f > 0 of this shard
  };

  /// Fills x_hat and g (tokens x d), gradient() and fired().
  [[nodiscard]] absl::StatusOr<Sums> ForwardBackward(const Input& input, T* x_hat, T* g, Phases* phases);

  /// dL/dW_enc, dL/dW_dec, dL/db_enc of this shard; not projected. b_dec is not touched.
  model::Parameters<T>& gradient() { return gradient_; }
  /// One value a latent: did it fire in this batch.
  const std::vector<std::uint8_t>& fired() const { return fired_; }
  bool active(std::int64_t token, std::int64_t latent) const {
    const std::int64_t bit = token * count_ + latent;
    return ((mask_[static_cast<std::size_t>(bit >> 6)] >> (bit & 63)) & 1U) != 0;
  }

 private:
  void Activate(const Input& input, std::int64_t token, std::int64_t tokens, Sums* sums);
  void LatentGradients(const Input& input, std::int64_t tokens, const T* g);
  void Accumulate(const kernels::AlignedVector<T>& codes, std::int64_t tokens, const T* rows, T scale,
                  kernels::AlignedVector<T>* gradient);

  const Context& context_;
  const std::int64_t count_;
  kernels::AlignedVector<T> z_;          // block x count: z, then f
  kernels::AlignedVector<T> u_;          // block x count: u, then delta
  kernels::AlignedVector<T> decoder_t_;  // d x count
  kernels::AlignedVector<T> codes_t_;    // count x block
  kernels::AlignedVector<T> rows_t_;     // d x block
  kernels::AlignedVector<T> product_;    // count x d
  model::Parameters<T> gradient_;
  std::vector<double> bias_sums_;
  std::vector<std::uint8_t> fired_;
  std::vector<std::uint64_t> mask_;      // tokens x count bits
  std::vector<double> block_l1_;
  std::vector<std::int64_t> block_active_;
};

}  // namespace sae::train
