// Losses and penalties beyond the plain ones: the loss over the batch's variance, Matryoshka's
// prefix without latents, quadratic L0, tanh with the pre-activation loss, p-annealing. What
// changes with the step lies in DeviceScalars, so that a captured step sees each step's own.
#include <cmath>
#include <cstring>

#include "sae/kernels/device/penalty.h"
#include "sae/kernels/device/vectors.h"
#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

namespace {

// Values of `from` that `to` has under the same name; both are the same process's.
void CopyState(const model::State& from, const model::State& to) {
  for (const model::StateScalar& target : to.scalars) {
    for (const model::StateScalar& source : from.scalars) {
      if (source.name != target.name) continue;
      if (double* const* value = std::get_if<double*>(&target.value)) {
        **value = *std::get<double*>(source.value);
      } else {
        *std::get<std::int64_t*>(target.value) = *std::get<std::int64_t*>(source.value);
      }
    }
  }
  for (const model::StateTensor& target : to.tensors) {
    for (const model::StateTensor& source : from.tensors) {
      if (source.name != target.name) continue;
      std::int64_t bytes = SizeOf(target.dtype);
      for (const std::int64_t n : target.shape) bytes *= n;
      std::memcpy(target.data, source.data, static_cast<std::size_t>(bytes));
    }
  }
}

}  // namespace

bool DeviceEngine::Penalised(model::Penalty penalty) const {
  return !context_.options.ranked() && context_.options.penalty == penalty;
}

absl::Status DeviceEngine::AllocatePenalty() {
  const model::Options& o = context_.options;
  const std::int64_t n = context_.shard.count;
  if (Penalised(model::Penalty::kLp)) {
    anneal_.emplace(config::TotalSteps(context_.config), context_.config.sae.p_end);
    SAE_RETURN_IF_ERROR(powers_.Create(runtime_, 2 * n, "powers"));
  }
  if (o.loss == model::LossReduction::kFvu || o.bias_weight > 0) {
    SAE_RETURN_IF_ERROR(target_moments_.Create(runtime_, 3 * context_.d_out, "target moments"));
  }
  if (!Penalised(model::Penalty::kTanh)) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(x_sum_.Create(runtime_, context_.d, "sum of x"));
  SAE_RETURN_IF_ERROR(below_.Create(runtime_, n, "sums below thresholds"));
  return dense_delta_.Create(runtime_, n, "dense delta");
}

void DeviceEngine::PullAnneal() {
  if (!anneal_) return;
  model::State own;
  anneal_->AddState(&own);
  CopyState(host_->whole_state(), own);
}

void DeviceEngine::PushAnneal() {
  if (!anneal_) return;
  model::State own;
  anneal_->AddState(&own);
  CopyState(own, host_->whole_state());
}

void DeviceEngine::SetAnnealedScalars() {
  if (!anneal_) return;
  pinned_->lambda *= anneal_->factor();
  pinned_->power = anneal_->p();
  pinned_->next_power = anneal_->next_p();
}

void DeviceEngine::CommitAnneal() {
  const auto tokens = static_cast<double>(context_.config.train.batch);
  if (anneal_) anneal_->Observe(last_.powers[0] / tokens, last_.powers[1] / tokens);
}

// Before anything reads rho.
absl::Status DeviceEngine::TargetTerms() {
  if (target_moments_.count() == 0) return absl::OkStatus();
  const std::int64_t tokens = batch_.tokens(), d = context_.d_out;
  device::TargetMomentsParams moments;
  moments.target = context_.options.transcoder ? y_.data() : x_.data();
  moments.target_scale = batch_.scale();
  moments.sums = target_moments_.data();
  moments.squares = target_moments_.data() + d;
  moments.tokens = tokens;
  moments.d = d;
  SAE_RETURN_IF_ERROR(Launched(cuda::TargetMoments(moments, stream_), "TargetMoments"));
  SAE_RETURN_IF_ERROR(replicas_->Sum(moments.sums, 2 * d));
  if (context_.options.loss != model::LossReduction::kFvu) return absl::OkStatus();
  device::FvuScaleParams scale{moments.sums, moments.squares, context_.config.train.batch, d,
                               &at()->rho};
  return Launched(cuda::FvuScale(scale, stream_), "FvuScale");
}

// After the squares of the prefixes were summed, and into b_dec's gradient.
absl::Status DeviceEngine::BiasOnlyTerm() {
  // The moments are those of all replicas: one of them has the term.
  if (!(context_.options.bias_weight > 0) || context_.replica() != 0) return absl::OkStatus();
  const std::int64_t d = context_.d_out;
  device::BiasOnlyParams p;
  p.sums = target_moments_.data();
  p.squares = target_moments_.data() + d;
  p.b_dec = parameters_->Find("b_dec")->p.data();
  p.weight = context_.options.bias_weight;
  p.rho = &at()->rho;
  p.tokens = context_.config.train.batch;
  p.d = d;
  p.gradient = d_b_dec_.data();
  p.parts = target_moments_.data() + 2 * d;
  SAE_RETURN_IF_ERROR(Launched(cuda::BiasOnly(p, stream_), "BiasOnly"));
  device::SumParams sum;
  sum.values = p.parts;
  sum.count = d;
  sum.add = true;
  sum.scratch = sum_scratch_.data();
  sum.out = &at()->squares;
  return Launched(cuda::Sum(sum, stream_), "Sum");
}

// Its coefficient is known before the rule; its own part of the loss is added after it.
absl::Status DeviceEngine::QuadraticTerm(bool loss) {
  if (!Penalised(model::Penalty::kL0Quadratic)) return absl::OkStatus();
  if (!loss) {
    SAE_RETURN_IF_ERROR(
        runtime_.CopyAsync(&at()->all_active, &at()->active, sizeof(std::int64_t), stream_));
    SAE_RETURN_IF_ERROR(world_->Sum(&at()->all_active, 1));
  }
  device::QuadraticL0Params p;
  p.active = &at()->all_active;
  p.lambda = &at()->lambda;
  p.target = context_.config.sae.target_l0;
  p.tokens = context_.config.train.batch;
  p.coefficient = &at()->coefficient;
  if (loss) p.penalty = &at()->penalty;
  return Launched(cuda::QuadraticL0(p, stream_), "QuadraticL0");
}

absl::Status DeviceEngine::BeforeRule(device::LatentRuleParams* rule) {
  if (anneal_) {
    rule->power_now = &at()->power;
    rule->power_next = &at()->next_power;
    rule->powers = powers_.data();
    rule->next_powers = powers_.data() + context_.shard.count;
  }
  if (Penalised(model::Penalty::kL0Quadratic)) {
    rule->lambda = &at()->coefficient;
    rule->penalty_counts = false;
    return QuadraticTerm(/*loss=*/false);
  }
  if (!Penalised(model::Penalty::kTanh)) return absl::OkStatus();
  const config::SaeConfig& sae = context_.config.sae;
  rule->tanh_scale = sae.tanh_scale;
  rule->pre_act_coefficient = sae.pre_act_coefficient / static_cast<double>(context_.replicas());
  rule->below = below_.data();
  rule->dense_delta = dense_delta_.data();
  device::ColumnSumsParams columns;
  columns.m = x_.data();
  columns.rows = batch_.tokens();
  columns.d = context_.d;
  columns.scratch = column_scratch_.data();
  columns.out = x_sum_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
  device::BelowSumsParams below;
  below.w = EncoderRows();
  below.c = c_.data();
  below.theta = theta_.data();
  below.x_sum = x_sum_.data();
  below.scale = batch_.scale();
  below.latents = context_.shard.count;
  below.d = context_.d;
  below.tokens = batch_.tokens();
  below.below = below_.data();
  return Launched(cuda::BelowSums(below, stream_), "BelowSums");
}

// After the rule and the sum of its penalties.
absl::Status DeviceEngine::AfterRule() {
  if (context_.communicator.rank() == 0) {
    SAE_RETURN_IF_ERROR(QuadraticTerm(/*loss=*/true));
  }
  if (!anneal_) return absl::OkStatus();
  const std::int64_t n = context_.shard.count;
  SAE_RETURN_IF_ERROR(SumOfLatents(powers_.data(), &at()->powers[0]));
  SAE_RETURN_IF_ERROR(SumOfLatents(powers_.data() + n, &at()->powers[1]));
  return world_->Sum(&at()->powers[0], 2);
}

// The penalty of one code, without its coefficient.
double DeviceEngine::PenaltyOf(double f, double norm) const {
  if (anneal_) return std::pow(f, anneal_->p());
  if (Penalised(model::Penalty::kTanh)) return std::tanh(context_.config.sae.tanh_scale * f * norm);
  return f * norm;
}

}  // namespace sae::train
