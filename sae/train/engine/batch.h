#pragma once
// The rows of one step or one evaluation batch as the engine sees them: inputs and targets apart,
// normalised per token where the options say so. Owns its buffers, grown on first use, or shares
// those of a gang. Not thread-safe.
// Scaled units are x' = scale() * x(): the input scale is multiplied in where values are used, so
// that one product serves every scale. Source: spec algorithms.md 0.6.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/train/engine/context.h"

namespace sae::train {

class EngineGang;

/// A function of the rows and of how the options treat them, whatever the input scale.
template <class T>
class LoadedRows {
 public:
  /// `rows`: [x] or, of a transcoder, [x | y] each. `keep`: makes a copy; else x() may be the rows
  /// themselves, where nothing has to be done to them.
  void Load(std::span<const float> rows, const Context& context, bool keep);

  std::int64_t tokens() const { return tokens_; }
  T* own_x() { return x_.data(); }
  const T* x() const { return view_ != nullptr ? view_ : x_.data(); }  ///< tokens x d
  const T* y() const { return y_.empty() ? x() : y_.data(); }          ///< tokens x d_out
  const std::vector<double>& mean() const { return mean_; }            ///< of each token, layer_norm
  const std::vector<double>& deviation() const { return deviation_; }

 private:
  std::int64_t tokens_ = 0;
  const T* view_ = nullptr;
  kernels::AlignedVector<T> x_, y_;
  std::vector<double> mean_, deviation_;
};

template <class T>
class Batch {
 public:
  explicit Batch(const Context& context);

  /// Values of one row as the source delivers it: [x] or [x | y].
  std::int64_t row_width() const { return row_width_; }
  /// `rows`: at most the batch of the config, row_width() each. keep: as LoadedRows.
  void Load(std::span<const float> rows, bool keep = true);
  void set_input_scale(double s) { scale_ = static_cast<T>(1 / s); }
  /// Borrowed; null: this batch is alone.
  void set_gang(EngineGang* gang) { gang_ = gang; }

  std::int64_t tokens() const { return rows_->tokens(); }
  T scale() const { return scale_; }         ///< 1 / S
  const T* x() const { return rows_->x(); }  ///< tokens x d
  const T* y() const { return rows_->y(); }  ///< tokens x d_out
  T* own_x() { return own_->own_x(); }       ///< to write to; of rows that no gang announced

  /// rows [tokens, d_out] in scaled units become raw units: times S, or times the token's standard
  /// deviation plus its mean.
  void ToRaw(double input_scale, T* rows) const;

 private:
  const Context& context_;
  const std::int64_t row_width_;
  T scale_ = 1;
  EngineGang* gang_ = nullptr;
  std::shared_ptr<LoadedRows<T>> own_;
  std::shared_ptr<const LoadedRows<T>> rows_;  // own_, or the gang's
};

}  // namespace sae::train
