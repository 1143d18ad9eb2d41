#include "sae/train/engine/dense_relu.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
DenseRelu<T>::DenseRelu(const Context& context, Relu<T>& relu)
    : context_(context),
      relu_(relu),
      slope_(Size(context.shard.count)),
      f_sums_(slope_.size()),
      delta_sums_(slope_.size()),
      powers_(anneals() ? slope_.size() : 0),
      next_powers_(powers_.size()),
      active_(slope_.size()) {}

template <class T>
void DenseRelu<T>::Begin(const DenseStart<T>& start) {
  start_ = start;
  const double lambda = start.lambda * (anneals() ? relu_.anneal().factor() : 1);
  share_ = lambda / static_cast<double>(start.tokens);
  for (std::size_t i = 0; i < slope_.size(); ++i) {
    const double norm = start.norms == nullptr ? 1 : static_cast<double>(start.norms[i]);
    slope_[i] = static_cast<T>(share_ * norm);
  }
  for (auto* sums : {&f_sums_, &delta_sums_, &powers_, &next_powers_})
    std::fill(sums->begin(), sums->end(), 0.0);
  std::fill(active_.begin(), active_.end(), 0);
}

template <class T>
void DenseRelu<T>::Codes(DenseRange range, const T* from, T* f) {
  const std::int64_t width = range.last - range.first;
  const T* c = start_.c + range.first;
  double* sums = f_sums_.data() + range.first;
  std::int32_t* active = active_.data() + range.first;
  const T scale = start_.scale;
  for (std::int64_t i = 0; i < width; ++i) {
    const T z = scale * from[i] + c[i];
    f[i] = z < 0 ? T(0) : z;  // NaN stays: it must reach the loss
  }
  for (std::int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(f[i]);
  for (std::int64_t i = 0; i < width; ++i) active[i] += f[i] > 0 ? 1 : 0;
  if (!anneals()) return;
  const double p = relu_.anneal().p(), next = relu_.anneal().next_p();
  for (std::int64_t i = 0; i < width; ++i) {
    const auto value = static_cast<double>(f[i]);
    if (value <= 0) continue;
    // log once for both powers; p = 1 is most of a run.
    const double log = std::log(value);
    powers_[Size(range.first + i)] += p == 1 ? value : std::exp(p * log);
    next_powers_[Size(range.first + i)] += next == 1 ? value : std::exp(next * log);
  }
}

template <class T>
void DenseRelu<T>::Backward(DenseRange range, const T*, const T* f, T* u) {
  const std::int64_t width = range.last - range.first;
  double* sums = delta_sums_.data() + range.first;
  const double p = anneals() ? relu_.anneal().p() : 1;
  if (p == 1) {
    const T* slope = slope_.data() + range.first;
    for (std::int64_t i = 0; i < width; ++i) {
      const T delta = u[i] + slope[i];  // before the choice: so the loop is a vector's
      u[i] = f[i] > 0 ? delta : T(0);
    }
  } else {
    for (std::int64_t i = 0; i < width; ++i) {
      const auto value = static_cast<double>(f[i]);
      u[i] = value > 0 ? u[i] + static_cast<T>(share_ * relu_.Slope(value)) : T(0);
    }
  }
  for (std::int64_t i = 0; i < width; ++i) sums[i] += static_cast<double>(u[i]);
}

template <class T>
absl::StatusOr<PenaltyTerms> DenseRelu<T>::Finish(LatentGradients<T>* gradients, Phases* phases) {
  PenaltyTerms out;
  for (std::size_t i = 0; i < delta_sums_.size(); ++i) {
    gradients->delta_sums[i] = static_cast<T>(delta_sums_[i]);
    if (!gradients->norm.empty()) gradients->norm[i] = static_cast<T>(share_ * f_sums_[i]);
    const double norm = start_.norms == nullptr ? 1 : static_cast<double>(start_.norms[i]);
    if (!anneals()) out.local += share_ * norm * f_sums_[i];
  }
  gradients->b_enc = gradients->delta_sums;
  if (!anneals()) return out;
  const auto sum = [](const std::vector<double>& v) {
    return std::accumulate(v.begin(), v.end(), 0.0);
  };
  SAE_RETURN_IF_ERROR(relu_.ReducePowers(sum(powers_), sum(next_powers_), start_.tokens, phases));
  out.replicated = share_ * static_cast<double>(start_.tokens) * relu_.power_sum();
  return out;
}

template class DenseRelu<float>;
template class DenseRelu<double>;

}  // namespace sae::train
