#pragma once
// Sums over all latents of all ranks: reconstructions and the encoder's term of b_dec's gradient.
// `reduction: fast`: each rank sums its own latents, ranks are added in rank order. `fixed`: the
// dictionary is cut into kVirtualBlocks blocks (model/shard.h), each summed by itself in the order
// of global ids, and the blocks added in order, so that the bits are the same at every world size
// that divides kVirtualBlocks. Collective. Keeps its buffers. Not thread-safe. Source: spec
// numerics.md 2.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/config/mesh.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/codes.h"
#include "sae/train/engine/context.h"

namespace sae::train {

using config::kVirtualBlocks;

template <class T>
class Reconstructor {
 public:
  explicit Reconstructor(const Context& context);

  struct Input {
    const kernels::Codes<T>* codes = nullptr;
    const T* f = nullptr;          ///< nnz, in the order of codes
    LatentRange range;             ///< only these latents
    const T* decoder = nullptr;    ///< [count, d_out]
    const T* row_scale = nullptr;  ///< [count] or null: direction_i = row_scale_i * decoder_i
    const T* bias = nullptr;       ///< [d_out] or null
    bool finite = true;            ///< false: every value of this rank is NaN
  };
  /// out [tokens, d_out] = bias + sum over latents of f_i direction_i.
  [[nodiscard]] absl::Status Run(const Input& input, T* out, Phases* phases);

  /// out[j] = sum over latents of weights_i w_ij, in float64; w [count, d].
  [[nodiscard]] absl::Status WeightedRowSum(const T* weights, const T* w, std::int64_t d,
                                            std::span<double> out, Phases* phases);
  /// sum over latents of values_i (float64), over all ranks.
  [[nodiscard]] absl::StatusOr<double> Total(std::span<const double> values, Phases* phases);

 private:
  void Local(const Input& input, LatentRange range, std::int64_t first_token, std::int64_t tokens,
             T* out);
  [[nodiscard]] absl::Status RunFixed(const Input& input, T* out, Phases* phases);
  /// Adds each entry to its block's part; parts [own blocks, tokens, d_out].
  void LocalBlocks(const Input& input, std::int64_t first_token, std::int64_t tokens, T* parts);
  bool fixed() const { return own_blocks_ > 0; }

  const Context& context_;
  std::int64_t own_blocks_ = 0;      // fixed only: this rank's, consecutive
  std::vector<std::uint8_t> block_;  // of each latent, counted from this rank's first
  kernels::AlignedVector<T> partial_, gathered_;
  std::vector<T> column_;
  std::vector<double> sums_, own_sums_;
};

}  // namespace sae::train
