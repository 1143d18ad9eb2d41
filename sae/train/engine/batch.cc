#include "sae/train/engine/batch.h"

#include <algorithm>
#include <type_traits>

#include "sae/model/init.h"
#include "sae/train/engine/engine_gang.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

std::int64_t TargetWidth(const Context& c) { return c.options.transcoder ? c.d_out : 0; }
}  // namespace

template <class T>
void LoadedRows<T>::Load(std::span<const float> rows, const Context& context, bool keep) {
  const std::int64_t d = context.d, d_out = TargetWidth(context), width = d + d_out;
  const bool normalise = context.options.input_scale == model::InputScale::kLayerNorm;
  tokens_ = static_cast<std::int64_t>(rows.size()) / width;
  view_ = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    if (!keep && d_out == 0 && !normalise) {
      view_ = rows.data();
      return;
    }
  }
  // Whole batches from the first load on, so that a smaller one before a step costs no second growth.
  const std::int64_t most = std::max(tokens_, context.batch());
  if (x_.size() < Size(most * d)) x_.resize(Size(most * d));
  if (y_.size() < Size(most * d_out)) y_.resize(Size(most * d_out));
  context.pool.ParallelFor(tokens_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const float* row = rows.data() + b * width;
      std::copy(row, row + d, x_.begin() + b * d);
      std::copy(row + d, row + width, y_.begin() + b * d_out);
    }
  });
  if (!normalise) return;
  mean_.resize(std::max(mean_.size(), Size(most)));
  deviation_.resize(mean_.size());
  context.pool.ParallelFor(tokens_, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::span<T> row(x_.data() + b * d, Size(d));
      const model::RowNorm norm = model::NormaliseRow(std::span<const T>(row), row);
      mean_[Size(b)] = norm.mean;
      deviation_[Size(b)] = norm.deviation;
    }
  });
}

template <class T>
Batch<T>::Batch(const Context& context)
    : context_(context),
      row_width_(context.d + TargetWidth(context)),
      own_(std::make_shared<LoadedRows<T>>()),
      rows_(own_) {}

template <class T>
void Batch<T>::Load(std::span<const float> rows, bool keep) {
  if constexpr (std::is_same_v<T, float>) {
    rows_ = gang_ == nullptr ? nullptr : gang_->Load(rows, context_);
    if (rows_ != nullptr) return;
  }
  own_->Load(rows, context_, keep);
  rows_ = own_;
}

template <class T>
void Batch<T>::ToRaw(double input_scale, T* rows) const {
  const std::int64_t d = context_.d_out;
  const bool normalised = !rows_->mean().empty();
  for (std::int64_t b = 0; b < tokens(); ++b) {
    const double factor = normalised ? rows_->deviation()[Size(b)] : input_scale;
    const double shift = normalised ? rows_->mean()[Size(b)] : 0;
    for (std::int64_t j = 0; j < d; ++j) {
      T& v = rows[b * d + j];
      v = static_cast<T>(static_cast<double>(v) * factor + shift);
    }
  }
}

template class LoadedRows<float>;
template class LoadedRows<double>;
template class Batch<float>;
template class Batch<double>;

}  // namespace sae::train
