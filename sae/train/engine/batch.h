#pragma once
// The rows of one step or one evaluation batch as the engine sees them: inputs and targets apart,
// normalised per token where the options say so. Owns its buffers, made once. Not thread-safe.
// Scaled units are x' = scale() * x(): the input scale is multiplied in where values are used, so
// that one product serves every scale. Source: spec algorithms.md 0.6.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/train/engine/context.h"

namespace sae::train {

template <class T>
class Batch {
 public:
  explicit Batch(const Context& context);

  /// Values of one row as the source delivers it: [x] or [x | y].
  std::int64_t row_width() const { return row_width_; }
  /// `rows`: at most the batch of the config, row_width() each.
  void Load(std::span<const float> rows);
  void set_input_scale(double s) { scale_ = static_cast<T>(1 / s); }

  std::int64_t tokens() const { return tokens_; }
  T scale() const { return scale_; }                   ///< 1 / S
  T* x() { return x_.data(); }                         ///< tokens x d
  const T* x() const { return x_.data(); }             ///< tokens x d
  const T* y() const { return separate_ ? y_.data() : x_.data(); }  ///< tokens x d_out

  /// rows [tokens, d_out] in scaled units become raw units: times S, or times the token's standard
  /// deviation plus its mean.
  void ToRaw(double input_scale, T* rows) const;

 private:
  const Context& context_;
  const bool separate_;
  const std::int64_t row_width_;
  std::int64_t tokens_ = 0;
  T scale_ = 1;
  kernels::AlignedVector<T> x_, y_;
  std::vector<double> mean_, deviation_;  // of each token, layer_norm
};

}  // namespace sae::train
