#pragma once
// New directions for dead latents, at 12.5, 25, 37.5 and 50% of the run: a dead latent takes the
// direction of a token drawn with probability ~ |error|^exponent, its encoder row 0.2 times the mean
// norm of the living, its moments start over. The tokens are those of the step's batch (Bricken et
// al. drew from a sample of 8e5 inputs of its own). Which token a latent takes depends on the seed,
// the step and its global id alone. Collective. Not thread-safe. Source: spec algorithms.md 1.1
// (Bricken et al. 2023).

#include <cstdint>
#include <vector>

#include "sae/optim/adam.h"
#include "sae/train/engine/batch.h"

namespace sae::train {

template <class T>
class Resampler {
 public:
  explicit Resampler(const Context& context);

  /// Whether `step` steps made so far is a time to resample.
  bool Due(std::int64_t step) const;
  /// `moments`: of the latents this rank owns. `x_hat`: the reconstruction of `batch`, scaled units. Returns how many of all ranks' latents
  /// got a new direction; their counters become 0.
  [[nodiscard]] absl::StatusOr<std::int64_t> Run(std::int64_t step, const Batch<T>& batch,
                                                 const T* x_hat,
                                                 std::vector<std::int64_t>* since_fired,
                                                 model::Parameters<T>* parameters,
                                                 optim::Moments<T>* moments);

 private:
  /// Sets cumulative_ and x_: of the batch of all replicas.
  [[nodiscard]] absl::Status Cumulate(const Batch<T>& batch, const T* x_hat);
  [[nodiscard]] absl::StatusOr<double> MeanAliveNorm(const std::vector<std::int64_t>& since_fired,
                                                     const model::Parameters<T>& parameters);
  void Renew(std::int64_t latent, const T* x, T scale, double encoder_norm,
             model::Parameters<T>* parameters, optim::Moments<T>* moments) const;

  const Context& context_;
  std::vector<double> cumulative_;  // of the tokens' weights
  std::vector<T> x_;                // of replicas: all rows of the batch, while Run lasts
  const T* rows_ = nullptr;         // x, tokens x d
};

}  // namespace sae::train
