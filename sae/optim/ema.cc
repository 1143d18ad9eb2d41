#include "sae/optim/ema.h"

#include <algorithm>

namespace sae::optim {

template <class T>
void Ema<T>::Observe(model::Parameters<T>& parameters, ThreadPool& pool) {
  weight_ += (1 - mu_) * (1 - weight_);
  const T share = static_cast<T>(1 - mu_);
  using P = model::Parameters<T>;
  for (const auto member : {&P::w_enc, &P::w_dec, &P::b_enc, &P::b_mag, &P::r_mag, &P::threshold,
                            &P::b_dec, &P::w_skip}) {
    T* mean = (mean_.*member).data();
    const T* p = (parameters.*member).data();
    pool.ParallelFor(static_cast<std::int64_t>((mean_.*member).size()),
                     [=](std::int64_t begin, std::int64_t end, int) {
                       for (std::int64_t j = begin; j < end; ++j)
                         mean[j] += share * (p[j] - mean[j]);
                     });
  }
}

template <class T>
void Ema<T>::CopyTo(model::Parameters<T>* out, model::Parameters<T>& parameters) {
  const auto to = out->All(false);
  const auto from = (weight_ > 0 ? mean_ : parameters).All(false);
  const double divisor = weight_ > 0 ? weight_ : 1;
  for (std::size_t i = 0; i < to.size(); ++i) {
    std::transform(from[i].values->begin(), from[i].values->end(), to[i].values->begin(),
                   [=](T v) { return static_cast<T>(static_cast<double>(v) / divisor); });
  }
}

template class Ema<float>;
template class Ema<double>;

}  // namespace sae::optim
