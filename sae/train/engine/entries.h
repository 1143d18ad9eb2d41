#pragma once
// The codes of one batch on this rank, with what the backward adds to them. Plain buffers, kept from
// step to step. Not thread-safe.

#include <cstdint>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/codes.h"

namespace sae::train {

template <class T>
struct Entries {
  /// ids ascend inside a token; values: pre-activations z (gated: h = W_g x without biases).
  kernels::Codes<T> codes;
  kernels::LatentIndex index;
  /// Decode weights where they are not the values themselves; 0 inside JumpReLU's window, or where a
  /// gate is open and the magnitude is not positive.
  std::vector<T> weights;
  bool weighted = false;
  std::vector<T> u;      ///< direction_i . dL/dx_hat, per entry
  std::vector<T> delta;  ///< dL/dz, per entry
  bool finite = true;    ///< false: a pre-activation was NaN

  const T* f() const { return weighted ? weights.data() : codes.values.data(); }
  /// Entries with f > 0.
  std::int64_t active() const {
    if (!weighted) return codes.nnz();
    std::int64_t count = 0;
    for (std::int64_t e = 0; e < codes.nnz(); ++e)
      count += weights[static_cast<std::size_t>(e)] > T(0) ? 1 : 0;
    return count;
  }
};

}  // namespace sae::train
