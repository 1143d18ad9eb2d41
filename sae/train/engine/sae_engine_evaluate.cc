// Held-out evaluation: the forward alone, sums in float64 over all rows.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "sae/train/engine/sae_engine.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
void SaeEngine<T>::BeginEvaluation(std::span<const float> mean) {
  MeasureLastStep();
  last_tokens_ = 0;
  std::vector<double> centre(mean.begin(), mean.end());
  centre.resize(Size(context_.d), 0.0);
  for (double& c : centre) c /= input_scale_;
  evaluation_ = model::ReconstructionAccumulator(centre);
  std::fill(evaluation_fired_.begin(), evaluation_fired_.end(), 0);
  evaluation_active_ = 0;
  evaluation_l1_ = 0;
}

template <class T>
absl::Status SaeEngine<T>::EvaluateBatch(std::span<const float> rows) {
  SAE_RETURN_IF_ERROR(CheckReady(rows, "evaluation"));
  const std::int64_t tokens = static_cast<std::int64_t>(rows.size()) / context_.d;
  const Phases of_step = phases_;
  Load(rows);
  SAE_RETURN_IF_ERROR(Encode(tokens));
  SAE_RETURN_IF_ERROR(Decode(tokens));
  phases_ = of_step;
  if (finite_) {
    evaluation_active_ += static_cast<double>(codes_.nnz());
    for (std::int64_t e = 0; e < codes_.nnz(); ++e) {
      evaluation_fired_[Size(codes_.ids[Size(e)])] = 1;
      evaluation_l1_ += static_cast<double>(codes_.values[Size(e)]);
    }
  }
  // In the scaled units of x_hat; g_ is free between steps.
  for (std::size_t i = 0; i < rows.size(); ++i) g_[i] = inverse_scale() * x_[i];
  evaluation_.Add(std::span<const T>(g_.data(), rows.size()),
                  std::span<const T>(x_hat_.data(), rows.size()));
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<std::map<std::string, double>> SaeEngine<T>::FinishEvaluation() {
  const model::ReconstructionMetrics r = evaluation_.Result();
  if (r.rows == 0) return absl::FailedPreconditionError("evaluation: no held-out rows were given");
  // Dead: silent on every held-out row and in the last max(5e5, 25%) training tokens (all of a
  // shorter run).
  const double window = std::max(5e5, 0.25 * context_.config.train.tokens);
  const std::int64_t recent = std::min(static_cast<std::int64_t>(window), tokens_);
  std::int64_t dead = 0;
  for (std::int64_t i = 0; i < context_.shard.count; ++i) {
    dead += evaluation_fired_[Size(i)] == 0 && since_fired_[Size(i)] >= recent ? 1 : 0;
  }
  std::array<double, 3> sums = {evaluation_active_, evaluation_l1_, static_cast<double>(dead)};
  SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<double>(sums)));
  if (!std::isfinite(r.squared_error)) {
    return absl::FailedPreconditionError(absl::StrCat("evaluation at step ", step_,
                                                      ": the squared error is ", r.squared_error,
                                                      ": look for non-finite held-out rows"));
  }
  const auto rows = static_cast<double>(r.rows);
  const double l1 = topk_ ? 0 : context_.config.sae.l1_coefficient * sums[1] / rows;
  return std::map<std::string, double>{
      {"heldout.loss", r.squared_error + l1},
      {"heldout.main_loss", r.squared_error},
      {"heldout.fvu", r.fvu},
      {"heldout.explained_variance", r.explained_variance},
      {"heldout.l0", sums[0] / rows},
      {"heldout.dead_fraction", sums[2] / static_cast<double>(context_.shard.latents)},
      {"heldout.gamma", r.gamma},
      {"heldout.cosine", r.cosine}};
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
