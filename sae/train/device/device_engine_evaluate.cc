// Held-out evaluation, metrics and the selection of the last step.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

// With a running mean of parameters the host evaluates: the mean never leaves it then.
void DeviceEngine::BeginEvaluation(std::span<const float> mean) {
  absl::Status settled = Settle();
  if (settled.ok()) settled = CatchUpDecoder(nullptr);
  if (!settled.ok()) {
    state_status_ = std::move(settled);
    return;
  }
  // Metrics of the last step need its batch.
  if (last_tokens_ > 0 && !measured_) (void)LastMetrics();
  last_tokens_ = 0;
  if (parameters_->has_ema()) {
    (void)state();
    host_->BeginEvaluation(mean);
    return;
  }
  std::vector<double> centre(mean.begin(), mean.end());
  centre.resize(static_cast<std::size_t>(context_.d_out), 0.0);
  evaluation_ = model::ReconstructionAccumulator(centre);
  evaluation_active_ = 0;
  evaluation_penalty_ = 0;
  evaluation_begun_ = false;
}

// Counts from 1, so that a latent that has fired shows 0.
absl::Status DeviceEngine::BeginFired() {
  if (evaluation_begun_) return absl::OkStatus();
  evaluation_begun_ = true;
  return runtime_.MemsetAsync(evaluation_since_.data(), 1, evaluation_since_.bytes(), stream_);
}

// The sparsity penalty of these codes, without its coefficient.
absl::StatusOr<double> DeviceEngine::PenaltySum() {
  if (context_.options.ranked()) return 0;
  if (rule() == device::LatentRule::kJumpRelu && !Penalised(model::Penalty::kTanh))
    return static_cast<double>(pinned_->active);
  const bool gated = rule() == device::LatentRule::kGated;
  const bool fixed = reconstructor_.on(), weighs = norms_.count() > 0;
  const std::int64_t entries = OwnEntries();
  SAE_ASSIGN_OR_RETURN(const std::vector<float> values,
                       Fetch(runtime_, gated ? gate_.data() : entries_.f(), entries, stream_));
  std::vector<std::int32_t> ids(values.size(), 0);
  if (fixed || weighs) {
    SAE_ASSIGN_OR_RETURN(ids, Fetch(runtime_, entries_.codes().ids, entries, stream_));
  }
  SAE_ASSIGN_OR_RETURN(const std::vector<float> norms,
                       Fetch(runtime_, norms_.data(), norms_.count(), stream_));
  std::vector<double> sums(fixed ? static_cast<std::size_t>(reconstructor_.own_blocks()) : 1, 0.0);
  for (std::size_t e = 0; e < values.size(); ++e) {
    const auto id = static_cast<std::size_t>(ids[e]);
    sums[fixed ? reconstructor_.host_blocks()[id] : 0] +=
        PenaltyOf(static_cast<double>(values[e]), weighs ? static_cast<double>(norms[id]) : 1.0);
  }
  return fixed ? SumOfBlocks(sums) : sums[0];
}

// A replica without rows takes part in what the batch selects.
absl::Status DeviceEngine::EvaluateForward() {
  const bool selects = batch_topk_.cut() != nullptr && !(threshold_weight_ > 0);
  if (batch_.tokens() == 0) return selects ? Encode(false, &entries_) : absl::OkStatus();
  SAE_RETURN_IF_ERROR(Encode(false, &entries_));
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(&at()->entries, entries_.count(), sizeof(std::int32_t), stream_));
  SAE_RETURN_IF_ERROR(entries_.BuildIndex(stream_));
  SAE_RETURN_IF_ERROR(columns_ != nullptr
                          ? ColumnForward()
                          : Decode(entries_, entries_.f(), true, parts_buffer_.data(), OneGroup()));
  device::CollectSumsParams collect;
  collect.entries = entries_.count();
  collect.finite = &at()->finite;
  collect.overflow = &at()->overflow;
  collect.sums = &at()->sums;
  return Launched(cuda::CollectSums(collect, stream_), "CollectSums");
}

absl::Status DeviceEngine::ForwardBatch() {
  for (int tries = 0;; ++tries) {
    *pinned_ = {};
    pinned_->finite = 1;
    SAE_RETURN_IF_ERROR(WriteScalars());
    SAE_RETURN_IF_ERROR(PrepareWeights());
    SAE_RETURN_IF_ERROR(EvaluateForward());
    SAE_RETURN_IF_ERROR(world_->Sum(&at()->sums.active, sizeof(device::StepSums) / sizeof(double)));
    SAE_RETURN_IF_ERROR(ReadScalars());
    SAE_RETURN_IF_ERROR(Wait());
    if (pinned_->sums.overflow == 0) return absl::OkStatus();
    if (tries > 40) return absl::InternalError("evaluation: buffers stay too small");
    SAE_RETURN_IF_ERROR(Grow(pinned_->sums));
  }
}

absl::Status DeviceEngine::EvaluateBatch(std::span<const float> rows) {
  const auto size = static_cast<std::int64_t>(rows.size());
  const std::int64_t width = row_width(), most = context_.config.train.batch;
  if (!(input_scale_ > 0)) {
    return absl::FailedPreconditionError(
        "evaluation: the engine has no parameters yet: call Initialise, or load a state");
  }
  if (size < 1 || size % width != 0 || size / width > most) {
    return absl::InvalidArgumentError(absl::StrCat("evaluation: ", size, " values are not 1 to ",
                                                   most, " rows of width ", width));
  }
  SAE_RETURN_IF_ERROR(state_status_);
  if (parameters_->has_ema()) return host_->EvaluateBatch(rows);
  SAE_RETURN_IF_ERROR(BeginFired());
  evaluation_tokens_ = size / width;
  const std::span<const float> own = OwnPart(rows);
  SAE_RETURN_IF_ERROR(Stage(own));
  if (batch_.tokens() > 0) {
    SAE_RETURN_IF_ERROR(Take());
  }
  SAE_RETURN_IF_ERROR(ForwardBatch());
  if (batch_.tokens() == 0) return absl::OkStatus();
  device::SinceFiredParams fired;
  fired.codes = entries_.codes();
  fired.index = entries_.index();
  fired.f = entries_.f();
  fired.tokens = 0;
  fired.dead_after = 1;
  fired.since = evaluation_since_.data();
  fired.dead = &at()->dead;
  fired.active = &at()->active;
  fired.scratch = dead_scratch_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::SinceFired(fired, stream_), "SinceFired"));
  SAE_RETURN_IF_ERROR(ReadScalars());
  SAE_RETURN_IF_ERROR(Wait());
  evaluation_active_ += static_cast<double>(pinned_->active);
  SAE_ASSIGN_OR_RETURN(const double penalty, PenaltySum());
  evaluation_penalty_ += penalty;
  const std::int64_t tokens = batch_.tokens(), d = context_.d_out;
  SAE_ASSIGN_OR_RETURN(raw_hat_, FetchReconstruction(parts_buffer_.data(), tokens));
  batch_.ToRaw(input_scale_, raw_hat_.data());
  raw_.resize(raw_hat_.size());
  for (std::int64_t b = 0; b < tokens; ++b)
    std::copy_n(own.data() + b * width + (width - d), d, raw_.begin() + b * d);
  evaluation_.Add(std::span<const float>(raw_), std::span<const float>(raw_hat_));
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, double>> DeviceEngine::FinishEvaluation() {
  if (parameters_->has_ema()) return host_->FinishEvaluation();
  SAE_RETURN_IF_ERROR(SumOverReplicas(&evaluation_));
  const model::ReconstructionMetrics r = evaluation_.Result();
  if (r.rows == 0) return absl::FailedPreconditionError("evaluation: no held-out rows were given");
  const double window = std::max(5e5, 0.25 * context_.config.train.tokens);
  const std::int64_t recent = std::min(static_cast<std::int64_t>(window), tokens_);
  const std::int64_t n = context_.shard.count;
  SAE_RETURN_IF_ERROR(BeginFired());
  SAE_ASSIGN_OR_RETURN(std::vector<std::int64_t> silent,
                       Fetch(runtime_, evaluation_since_.data(), n, stream_));
  SAE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> since,
                       Fetch(runtime_, parameters_->since_fired().data(), n, stream_));
  SAE_RETURN_IF_ERROR(
      mesh_->replicas().AllReduce(silent.data(), n, DType::kI64, comm::ReduceOp::kMin));
  std::int64_t dead = 0;
  for (std::size_t i = 0; i < silent.size(); ++i)
    dead += silent[i] != 0 && since[i] >= recent ? 1 : 0;
  std::array<double, 3> sums = {evaluation_active_, evaluation_penalty_, static_cast<double>(dead)};
  SAE_RETURN_IF_ERROR(mesh_->world().AllReduceSum(std::span<double>(sums)));
  sums[2] /= static_cast<double>(context_.replicas());
  if (!std::isfinite(r.squared_error)) {
    return absl::FailedPreconditionError(absl::StrCat("evaluation at step ", step_,
                                                      ": the squared error is ", r.squared_error,
                                                      ": look for non-finite held-out rows"));
  }
  const auto rows = static_cast<double>(r.rows);
  const double main = r.squared_error / (input_scale_ * input_scale_);
  const bool quadratic = Penalised(model::Penalty::kL0Quadratic);
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

absl::StatusOr<std::map<std::string, double>> DeviceEngine::LastMetrics() {
  SAE_RETURN_IF_ERROR(Settle());
  if (!measured_) {
    if (last_tokens_ == 0)
      return absl::FailedPreconditionError("metrics: no step has been made yet: call Step first");
    SAE_ASSIGN_OR_RETURN(const std::vector<float> hat,
                         FetchReconstruction(x_hat_.data(), last_tokens_));
    std::vector<float> scaled(hat.size());
    std::vector<double> mean(static_cast<std::size_t>(context_.d_out), 0.0);
    for (std::size_t i = 0; i < scaled.size(); ++i) {
      scaled[i] = batch_.scale() * inbox_.y()[i];
      mean[i % mean.size()] += static_cast<double>(scaled[i]) / static_cast<double>(last_tokens_);
    }
    SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<double>(mean)));
    model::ReconstructionAccumulator accumulator(mean);
    accumulator.Add(std::span<const float>(scaled), std::span<const float>(hat));
    SAE_RETURN_IF_ERROR(SumOverReplicas(&accumulator));
    last_reconstruction_ = accumulator.Result();
    measured_ = true;
  }
  const model::ReconstructionMetrics& r = last_reconstruction_;
  const auto batch = static_cast<double>(context_.config.train.batch);
  const double penalty = last_.sums.penalty + last_.gate_loss;
  std::map<std::string, double> out = {
      {"train.loss", last_.main_loss + penalty + last_.aux_loss},
      {"train.main_loss", last_.main_loss},
      {"train.fvu", r.fvu},
      {"train.explained_variance", r.explained_variance},
      {"train.gamma", r.gamma},
      {"train.cosine", r.cosine},
      {"train.l0", last_.sums.active / batch},
      {"train.dead_fraction", last_.sums.dead / static_cast<double>(context_.shard.latents)},
      {"lr", last_lr_},
      {"ms.step", last_ms_}};
  if (context_.options.ranked()) {
    out["train.aux_loss"] = last_.aux_loss + last_.gate_loss;
  } else {
    out["train.penalty_loss"] = penalty;
    out["sparsity_coefficient"] = last_lambda_;
  }
  if (context_.config.train.clip > 0) out["gradient_norm"] = last_.norm;
  if (anneal_) out["penalty_p"] = anneal_->p();
  if (threshold_weight_ > 0) out["batch_threshold"] = threshold_mean_ / threshold_weight_;
  return out;
}

absl::StatusOr<std::vector<std::vector<std::int64_t>>> DeviceEngine::LastSelection() {
  SAE_RETURN_IF_ERROR(Settle());
  if (last_tokens_ == 0)
    return absl::FailedPreconditionError("selection: no step since the start or an evaluation");
  const std::int64_t count = OwnEntries();
  SAE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                       Fetch(runtime_, entries_.codes().ids, count, stream_));
  SAE_ASSIGN_OR_RETURN(const std::vector<std::int32_t> rows,
                       Fetch(runtime_, entries_.codes().rows, count, stream_));
  SAE_ASSIGN_OR_RETURN(const std::vector<float> f, Fetch(runtime_, entries_.f(), count, stream_));
  const std::int64_t first = context_.replica() * context_.batch();
  std::vector<std::int64_t> own;  // (token, global id)
  for (std::size_t e = 0; e < f.size(); ++e) {
    if (!(f[e] > 0)) continue;
    own.push_back(first + rows[e]);
    own.push_back(context_.shard.Global(ids[e]));
  }
  std::vector<std::int64_t> counts(static_cast<std::size_t>(mesh_->world().size()));
  const auto size = static_cast<std::int64_t>(own.size());
  SAE_RETURN_IF_ERROR(mesh_->world().AllGather(std::span<const std::int64_t>(&size, 1),
                                               std::span<std::int64_t>(counts)));
  std::vector<std::int64_t> all(
      static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  SAE_RETURN_IF_ERROR(mesh_->world().AllGatherV(own.data(), all.data(), counts, DType::kI64));
  std::vector<std::vector<std::int64_t>> out(static_cast<std::size_t>(context_.config.train.batch));
  for (std::size_t i = 0; i < all.size(); i += 2)
    out[static_cast<std::size_t>(all[i])].push_back(all[i + 1]);
  for (auto& tokens : out) std::sort(tokens.begin(), tokens.end());
  return out;
}

}  // namespace sae::train
