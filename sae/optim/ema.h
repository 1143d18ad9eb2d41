#pragma once
// A running mean of parameters: E <- E + (1 - mu)(p - E), E = 0 at first, used as E / (1 - mu^t).
// Owns its memory. Not thread-safe. Source: spec algorithms.md 3.5 (OpenAI's train.py).

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/model/parameters.h"

namespace sae::optim {

template <class T>
class Ema {
 public:
  Ema(const model::ParameterShape& shape, double mu) : mu_(mu), mean_(shape) {}

  void Observe(model::Parameters<T>& parameters, ThreadPool& pool);
  /// The corrected mean; before the first Observe: `parameters` themselves.
  void CopyTo(model::Parameters<T>* out, model::Parameters<T>& parameters);
  /// 1 - mu^t.
  double* weight() { return &weight_; }
  model::Parameters<T>& mean() { return mean_; }

 private:
  double mu_;
  double weight_ = 0;
  model::Parameters<T> mean_;
};

}  // namespace sae::optim
