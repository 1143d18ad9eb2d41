#include "sae/train/engine/batch.h"

#include <algorithm>

#include "sae/model/init.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Batch<T>::Batch(const Context& context)
    : context_(context),
      separate_(context.options.transcoder),
      row_width_(context.d + (separate_ ? context.d_out : 0)),
      x_(Size(context.config.train.batch * context.d)),
      y_(Size(separate_ ? context.config.train.batch * context.d_out : 0)) {
  if (context.options.input_scale == model::InputScale::kLayerNorm) {
    mean_.resize(Size(context.config.train.batch));
    deviation_.resize(mean_.size());
  }
}

template <class T>
void Batch<T>::Load(std::span<const float> rows) {
  tokens_ = static_cast<std::int64_t>(rows.size()) / row_width_;
  const std::int64_t d = context_.d;
  const std::int64_t d_out = separate_ ? context_.d_out : 0;
  context_.pool.ParallelFor(tokens_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const float* row = rows.data() + b * row_width_;
      std::copy(row, row + d, x_.begin() + b * d);
      std::copy(row + d, row + d + d_out, y_.begin() + b * d_out);
    }
  });
  if (mean_.empty()) return;
  context_.pool.ParallelFor(tokens_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::span<T> row(x_.data() + b * d, Size(d));
      const model::RowNorm norm = model::NormaliseRow(std::span<const T>(row), row);
      mean_[Size(b)] = norm.mean;
      deviation_[Size(b)] = norm.deviation;
    }
  });
}

template <class T>
void Batch<T>::ToRaw(double input_scale, T* rows) const {
  const std::int64_t d = context_.d_out;
  for (std::int64_t b = 0; b < tokens_; ++b) {
    const double factor = mean_.empty() ? input_scale : deviation_[Size(b)];
    const double shift = mean_.empty() ? 0 : mean_[Size(b)];
    for (std::int64_t j = 0; j < d; ++j) {
      T& v = rows[b * d + j];
      v = static_cast<T>(static_cast<double>(v) * factor + shift);
    }
  }
}

template class Batch<float>;
template class Batch<double>;

}  // namespace sae::train
