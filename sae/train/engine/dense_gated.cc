#include "sae/train/engine/dense_gated.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sae::train {

template <class T>
DenseGated<T>::DenseGated(const Context& context, const model::Parameters<T>& parameters)
    : parameters_(parameters),
      magnitude_(static_cast<std::size_t>(context.shard.count)),
      gate_sums_(magnitude_.size()),
      d_gate_(magnitude_.size()),
      d_magnitude_(magnitude_.size()),
      d_scale_(magnitude_.size()),
      d_h_(magnitude_.size()),
      open_(magnitude_.size()) {}

template <class T>
void DenseGated<T>::Begin(const DenseStart<T>& start) {
  start_ = start;
  for (std::size_t i = 0; i < magnitude_.size(); ++i)
    magnitude_[i] = std::exp(parameters_.r_mag[i]);
  for (auto* sums : {&gate_sums_, &d_gate_, &d_magnitude_, &d_scale_, &d_h_})
    std::fill(sums->begin(), sums->end(), 0.0);
  std::fill(open_.begin(), open_.end(), 0);
}

// NaN stays, here and in Codes: it must reach the loss.
template <class T>
void DenseGated<T>::Open(DenseRange range, T* product, T* gate) {
  const std::int64_t width = range.last - range.first;
  const T* c = start_.c + range.first;
  const T* bias = parameters_.b_enc.data() + range.first;
  double* sums = gate_sums_.data() + range.first;
  std::int32_t* open = open_.data() + range.first;
  const T scale = start_.scale;
  for (std::int64_t i = 0; i < width; ++i) product[i] = scale * product[i] + c[i];
  for (std::int64_t i = 0; i < width; ++i) {
    const T pi = product[i] + bias[i];
    gate[i] = pi < 0 ? T(0) : pi;
  }
  for (std::int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(gate[i]);
  for (std::int64_t i = 0; i < width; ++i) open[i] += gate[i] > 0 ? 1 : 0;
}

template <class T>
void DenseGated<T>::Codes(DenseRange range, const T* h, T* f) {
  const std::int64_t width = range.last - range.first;
  const T* bias = parameters_.b_enc.data() + range.first;
  const T* offset = parameters_.b_mag.data() + range.first;
  const T* magnitude = magnitude_.data() + range.first;
  for (std::int64_t i = 0; i < width; ++i) {
    const T m = magnitude[i] * h[i] + offset[i];
    const T open = h[i] + bias[i] <= 0 ? T(0) : m;
    f[i] = m < 0 ? T(0) : open;
  }
}

template <class T>
void DenseGated<T>::Backward(DenseRange range, const T* h, const T* f, T* u) {
  const std::int64_t width = range.last - range.first;
  const T* magnitude = magnitude_.data() + range.first;
  double* sums = d_magnitude_.data() + range.first;
  double* weighted = d_scale_.data() + range.first;
  for (std::int64_t i = 0; i < width; ++i) u[i] = f[i] > 0 ? u[i] : T(0);
  for (std::int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(u[i]);
  for (std::int64_t i = 0; i < width; ++i)
    weighted[i] += static_cast<double>(u[i]) * static_cast<double>(h[i]);
  for (std::int64_t i = 0; i < width; ++i) u[i] *= magnitude[i];
}

template <class T>
void DenseGated<T>::CloseGate(DenseRange range, const T* h, const T* v, T* u) {
  const std::int64_t width = range.last - range.first;
  const T share = static_cast<T>(start_.lambda / static_cast<double>(start_.tokens));
  const T* bias = parameters_.b_enc.data() + range.first;
  double* gate = d_gate_.data() + range.first;
  double* sums = d_h_.data() + range.first;
  for (std::int64_t i = 0; i < width; ++i) {
    const T through = v[i] + share;  // before the choice: so the loop is a vector's
    const T d_pi = h[i] + bias[i] > 0 ? through : T(0);
    gate[i] += static_cast<double>(d_pi);
    u[i] += d_pi;
  }
  for (std::int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(u[i]);
}

template <class T>
absl::StatusOr<PenaltyTerms> DenseGated<T>::Finish(LatentGradients<T>* gradients, Phases*) {
  for (std::size_t i = 0; i < d_h_.size(); ++i) {
    gradients->b_enc[i] = static_cast<T>(d_gate_[i]);
    gradients->b_mag[i] = static_cast<T>(d_magnitude_[i]);
    gradients->r_mag[i] = static_cast<T>(static_cast<double>(magnitude_[i]) * d_scale_[i]);
    gradients->delta_sums[i] = static_cast<T>(d_h_[i]);
  }
  PenaltyTerms out;
  out.local = start_.lambda * std::accumulate(gate_sums_.begin(), gate_sums_.end(), 0.0) /
              static_cast<double>(start_.tokens);
  return out;
}

template class DenseGated<float>;
template class DenseGated<double>;

}  // namespace sae::train
