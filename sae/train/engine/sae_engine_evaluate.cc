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
  MeasureLastStep().IgnoreError();  // LastMetrics has it
  CatchUpAll();
  last_tokens_ = 0;
  std::vector<double> centre(mean.begin(), mean.end());
  centre.resize(Size(context_.d_out), 0.0);
  evaluation_ = model::ReconstructionAccumulator(centre);
  raw_.resize(Size(context_.batch() * context_.d_out));
  raw_hat_.resize(raw_.size());
  std::fill(evaluation_fired_.begin(), evaluation_fired_.end(), 0);
  evaluation_active_ = 0;
  evaluation_penalty_ = 0;
}

template <class T>
absl::Status SaeEngine<T>::EvaluateBatch(std::span<const float> all_rows) {
  SAE_RETURN_IF_ERROR(CheckReady(all_rows, "evaluation"));
  const std::span<const float> rows = OwnPart(all_rows);
  const Phases of_step = phases_;
  batch_.Load(rows);
  // With `ema` the mean parameters stand in for the live ones during a batch.
  if (ema_ != nullptr) {
    ema_->CopyTo(swapped_.get(), parameters_);
    std::swap(*swapped_, parameters_);
    evaluates_mean_ = true;
  }
  absl::Status status = UpdateNorms();
  if (status.ok()) status = Encode(false);
  if (status.ok()) status = main_.Forward(MainInput(1), entries_, &phases_);
  if (status.ok() && entries_.finite) {
    for (std::int64_t e = 0; e < entries_.codes.nnz(); ++e) {
      if (entries_.f()[e] > T(0)) evaluation_fired_[Size(entries_.codes.ids[Size(e)])] = 1;
    }
    evaluation_active_ += static_cast<double>(entries_.active());
    evaluation_penalty_ += activation_->PenaltySum(BackwardInputOf(1, 0), entries_);
  }
  if (ema_ != nullptr) std::swap(*swapped_, parameters_);
  evaluates_mean_ = false;
  phases_ = of_step;
  SAE_RETURN_IF_ERROR(status);
  const std::int64_t tokens = batch_.tokens();
  const std::size_t size = Size(tokens * context_.d_out);
  std::copy_n(main_.x_hat(), size, raw_hat_.begin());
  batch_.ToRaw(input_scale_, raw_hat_.data());
  for (std::int64_t b = 0; b < tokens; ++b) {
    const float* row = rows.data() + b * row_width() + (row_width() - context_.d_out);
    std::copy_n(row, context_.d_out, raw_.begin() + b * context_.d_out);
  }
  evaluation_.Add(std::span<const T>(raw_.data(), size), std::span<const T>(raw_hat_.data(), size));
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<std::map<std::string, double>> SaeEngine<T>::FinishEvaluation() {
  SAE_RETURN_IF_ERROR(ReduceSums(&evaluation_));
  if (replicas() > 1) {
    SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduce(evaluation_fired_.data(), context_.shard.count,
                                                    DType::kU8, comm::ReduceOp::kMax));
  }
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
  std::array<double, 3> sums = {evaluation_active_, evaluation_penalty_, static_cast<double>(dead)};
  SAE_RETURN_IF_ERROR(mesh_->world().AllReduceSum(std::span<double>(sums)));
  sums[2] /= static_cast<double>(replicas());
  if (!std::isfinite(r.squared_error)) {
    return absl::FailedPreconditionError(absl::StrCat("evaluation at step ", step_,
                                                      ": the squared error is ", r.squared_error,
                                                      ": look for non-finite held-out rows"));
  }
  const auto rows = static_cast<double>(r.rows);
  // In scaled units, as the training loss: sum over d, mean over tokens.
  const double main = r.squared_error / (input_scale_ * input_scale_);
  const bool quadratic = context_.options.penalty == model::Penalty::kL0Quadratic;
  const double penalty = quadratic ? 0 : LambdaNow() * sums[1] / rows;
  return std::map<std::string, double>{
      {"heldout.loss", main + penalty},
      {"heldout.main_loss", main},
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
