// What follows a backward: sums over ranks, clipping, the optimizer, and the step's metrics.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/jumprelu.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

kernels::DecoderRule RuleOf(model::DecoderMode mode) {
  switch (mode) {
    case model::DecoderMode::kUnitBefore: return kernels::DecoderRule::kUnitBefore;
    case model::DecoderMode::kFree: return kernels::DecoderRule::kFree;
    case model::DecoderMode::kOnTheFly: return kernels::DecoderRule::kOnTheFly;
    case model::DecoderMode::kUnit: break;
  }
  return kernels::DecoderRule::kUnit;
}

template <class T>
double Squares(const T* v, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  return sum;
}

}  // namespace

template <class T>
kernels::Adam SaeEngine<T>::AdamAt(std::int64_t t) const {
  const config::TrainConfig& c = context_.config.train;
  return kernels::Adam::At(t, schedule_.LearningRate(t - 1), *c.beta1, c.beta2, *c.epsilon);
}

template <class T>
void SaeEngine<T>::CollectTerms() {
  terms_.clear();
  for (std::size_t group = 0; group < main_.groups(); ++group) {
    const LatentRange range = main_.range(group);
    const bool rows = columns_ == nullptr;  // else the decoder's part is not by latents
    terms_.push_back({&entries_.index, rows ? entries_.f() : nullptr, entries_.delta.data(),
                      main_.g(group), range.first, range.last});
  }
  const auto add = [&](const kernels::LatentIndex& index, const T* f, const T* delta, const T* g) {
    terms_.push_back({&index, columns_ == nullptr ? f : nullptr, delta, g});
    std::vector<T>& sums = column_sums_;
    sums.resize(Size(context_.shard.count));
    kernels::SumByLatent(index, delta, sums.data(), context_.pool);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      gradients_.delta_sums[i] += sums[i];
      gradients_.b_enc[i] += sums[i];
    }
  };
  PhaseTimer timer(phases_.backward);
  if (wide_ != nullptr) {
    const Entries<T>& wide = wide_->entries();
    add(wide.index, wide.f(), wide.delta.data(), wide_->g());
  }
  if (aux_ != nullptr && aux_->active())
    add(aux_->index(), aux_->codes().values.data(), aux_->delta(), aux_->g());
}

// b_dec's gradient: of the decoder's side, minus the encoder's term reduced over ranks.
template <class T>
absl::Status SaeEngine<T>::ReduceStep(PenaltyTerms penalty, std::int64_t active,
                                      std::int64_t entries) {
  const std::int64_t d = context_.d_out;
  if (context_.options.pre_bias) {
    SAE_RETURN_IF_ERROR(reconstructor_.WeightedRowSum(gradients_.delta_sums.data(),
                                                      parameters_.w_enc.data(), d, encoder_sums_,
                                                      &phases_));
  }
  const std::int64_t dead_after = DeadAfter(context_.config);
  const auto parts = static_cast<double>(replicas());
  std::array<double, 4> sums = {
      static_cast<double>(active), static_cast<double>(entries), penalty.local,
      static_cast<double>(std::count_if(since_fired_.begin(), since_fired_.end(),
                                        [&](std::int64_t t) { return t >= dead_after; }))};
  {
    PhaseTimer timer(phases_.exchange);
    SAE_RETURN_IF_ERROR(mesh_->world().AllReduceSum(std::span<double>(sums)));
  }
  sums_ = {sums[0], sums[1], sums[2] / parts, sums[3] / parts};
  SAE_ASSIGN_OR_RETURN(const double bias_loss, MakeBiasGradient());
  SAE_RETURN_IF_ERROR(MeanVectorGradients());
  std::array<double, 3> losses = {losses_.aux, penalty.replicated, bias_loss};
  SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<double>(losses)));
  losses_.aux = losses[0];
  losses_.penalty = sums_.penalty + losses[1];
  losses_.main += losses[2];
  return absl::OkStatus();
}

// Of this replica; returns the loss of the bias alone.
template <class T>
absl::StatusOr<double> SaeEngine<T>::MakeBiasGradient() {
  const std::int64_t d = context_.d_out;
  const std::int64_t tokens = batch_.tokens();
  if (columns_ != nullptr) {
    SAE_RETURN_IF_ERROR(columns_->BiasGradient(bias_gradient_.data(), &phases_));
  }
  PhaseTimer timer(phases_.backward);
  if (columns_ == nullptr)
    kernels::ColumnSums(main_.g(), tokens, d, bias_gradient_.data(), context_.pool);
  const auto add = [&](const T* g) {
    kernels::ColumnSums(g, tokens, d, column_.data(), context_.pool);
    for (std::int64_t j = 0; j < d; ++j) bias_gradient_[Size(j)] += column_[Size(j)];
  };
  if (!last_dense_ && wide_ != nullptr) add(wide_->g());
  if (!last_dense_ && columns_ == nullptr && aux_ != nullptr && aux_->active()) add(aux_->g());
  const double loss = context_.options.bias_weight > 0 ? AddBiasOnlyTerm() : 0;
  if (!context_.options.pre_bias) return loss;
  for (std::int64_t j = 0; j < d; ++j)
    bias_gradient_[Size(j)] -= static_cast<T>(encoder_sums_[Size(j)]);
  return loss;
}

template <class T>
absl::Status SaeEngine<T>::MeanVectorGradients() {
  if (replicas() == 1) return absl::OkStatus();
  PhaseTimer timer(phases_.exchange);
  SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<T>(bias_gradient_)));
  for (auto* v :
       {&gradients_.b_enc, &gradients_.b_mag, &gradients_.r_mag, &gradients_.threshold}) {
    if (v->empty()) continue;
    SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<T>(v->data(), v->size())));
  }
  return absl::OkStatus();
}

// Matryoshka's prefix of no latents at all: w R(b_dec - y).
template <class T>
double SaeEngine<T>::AddBiasOnlyTerm() {
  const double weight = rho_ * context_.options.bias_weight;
  const std::int64_t d = context_.d_out;
  double squares = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    const auto bias = static_cast<double>(parameters_.b_dec[Size(j)]);
    double sum = 0;
    for (std::int64_t b = 0; b < batch_.tokens(); ++b) {
      const double e = bias - static_cast<double>(batch_.scale() * batch_.y()[b * d + j]);
      sum += e;
      squares += e * e;
    }
    bias_gradient_[Size(j)] += static_cast<T>(2 * weight * sum);
  }
  return weight * squares;
}

template <class T>
kernels::RowGradientInput<T> SaeEngine<T>::RowInput() {
  kernels::RowGradientInput<T> in;
  in.latents = context_.shard.count;
  in.d = context_.d;
  in.d_out = columns_ == nullptr ? context_.d_out : 0;
  in.x = batch_.x();
  in.scale = batch_.scale();
  in.b_dec = context_.options.pre_bias ? parameters_.b_dec.data() : nullptr;
  in.terms = terms_;
  in.delta_sums = gradients_.delta_sums.data();
  // Other rules project it out; RowUpdate would leave it out by itself.
  if (!gradients_.norm.empty() && columns_ == nullptr &&
      context_.options.decoder == model::DecoderMode::kFree)
    in.norm_gradient = gradients_.norm.data();
  if (!gradients_.dense_delta.empty()) {
    kernels::ColumnSums(batch_.x(), batch_.tokens(), context_.d, x_sum_.data(), context_.pool);
    in.dense_delta = gradients_.dense_delta.data();
    in.x_sum = x_sum_.data();
  }
  return in;
}

template <class T>
kernels::RowParameters<T> SaeEngine<T>::Rows() {
  kernels::RowParameters<T> rows = optim::RowsOf(parameters_, moments_);
  const std::int64_t first = context_.Owned().first;
  rows.w_enc += first * context_.d;
  rows.w_dec += first * context_.d_out;
  if (!row_scale_.empty()) rows.row_scale = row_scale_.data() + first;
  if (!last_step_.empty()) rows.last_step = last_step_.data();
  return rows;
}

template <class T>
typename ColumnDecoder<T>::StepInput SaeEngine<T>::ColumnStep(double gradient_scale) {
  typename ColumnDecoder<T>::StepInput in;
  in.adam = AdamAt(step_ + 1);
  in.gradient_scale = gradient_scale;
  if (!gradients_.norm.empty()) in.norm_gradient = gradients_.norm.data();
  in.w = parameters_.w_dec.data();
  in.m = moments_.m.w_dec.data();
  in.v = moments_.v.w_dec.data();
  return in;
}

template <class T>
kernels::RowUpdateOptions SaeEngine<T>::RowOptions(double gradient_scale) const {
  using Rows = kernels::RowUpdateOptions::Rows;
  kernels::RowUpdateOptions o;
  o.t = step_ + 1;
  o.adam = AdamAt(o.t);
  o.decoder = columns_ == nullptr ? RuleOf(context_.options.decoder) : kernels::DecoderRule::kFree;
  o.gradient_scale = gradient_scale;
  const model::RowMode mode = context_.options.rows;
  o.rows = mode == model::RowMode::kLazy       ? Rows::kLazy
           : mode == model::RowMode::kDeferred ? Rows::kDeferred
                                               : Rows::kDense;
  o.adam_at = [this](std::int64_t t) { return AdamAt(t); };
  return o;
}

template <class T>
void SaeEngine<T>::CatchUpTouched(const kernels::LatentIndex& index) {
  if (context_.options.rows != model::RowMode::kDeferred) return;
  PhaseTimer timer(phases_.update);
  touched_.clear();
  for (std::int64_t i = 0; i < context_.shard.count; ++i) {
    if (!index.empty(i)) touched_.push_back(static_cast<std::int32_t>(i));
  }
  kernels::RowUpdateOptions options = RowOptions(1);
  options.t = step_;
  kernels::CatchUp(touched_.data(), static_cast<std::int64_t>(touched_.size()), context_.d,
                   context_.d_out, options, Rows(), context_.pool);
}

template <class T>
void SaeEngine<T>::CatchUpAll() {
  if (last_step_.empty() || step_ == 0) return;
  kernels::RowUpdateOptions options = RowOptions(1);
  options.t = step_;
  kernels::CatchUp<T>(nullptr, static_cast<std::int64_t>(last_step_.size()), context_.d, context_.d_out, options, Rows(),
                      context_.pool);
}

// The global norm: rows and vectors of all shards, what is the same on every rank once.
template <class T>
absl::StatusOr<double> SaeEngine<T>::GradientScale(const kernels::RowGradientInput<T>& input) {
  const double clip = context_.config.train.clip;
  if (clip <= 0) return 1;
  {
    PhaseTimer timer(phases_.update);
    kernels::RowGradientSquaredNorm(input, Rows(), RowOptions(1), &row_workspace_, context_.pool);
    const auto first = Size(context_.Owned().first);
    for (const auto* v : {&gradients_.b_enc, &gradients_.b_mag, &gradients_.r_mag,
                          &gradients_.threshold}) {
      for (std::size_t i = 0; !v->empty() && i < row_workspace_.norms.size(); ++i) {
        const auto g = static_cast<double>((*v)[first + i]);
        row_workspace_.norms[i] += g * g;
      }
    }
  }
  SAE_ASSIGN_OR_RETURN(double squares, reconstructor_.Total(row_workspace_.norms, &phases_));
  if (replicas() > 1) {
    SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduceSum(std::span<double>(&squares, 1)));
  }
  if (columns_ != nullptr) {
    SAE_ASSIGN_OR_RETURN(const double decoder,
                         columns_->GradientSquaredNorm(ColumnStep(1), &phases_));
    squares += decoder;
  }
  squares += Squares(bias_gradient_.data(), context_.d_out);
  if (context_.options.skip) {
    SAE_ASSIGN_OR_RETURN(const T* skip, SkipGradient());
    squares += Squares(skip, context_.d * context_.d_out);
  }
  last_norm_ = std::sqrt(squares);
  return clip / std::max(last_norm_, clip);
}

template <class T>
double SaeEngine<T>::ThresholdRate() const {
  const auto* jump = dynamic_cast<const JumpRelu<T>*>(activation_.get());
  return train::ThresholdRate(context_.config.sae, jump != nullptr ? jump->bandwidth() : 0);
}

template <class T>
absl::StatusOr<T*> SaeEngine<T>::SkipGradient() {
  if (skip_gradient_ != nullptr) return skip_gradient_;
  T* gradient =
      main_.skip().Gradient(batch_, main_.g(), wide_ != nullptr ? wide_->g() : nullptr);
  SAE_RETURN_IF_ERROR(
      context_.MeanOverReplicas(std::span<T>(gradient, Size(context_.d * context_.d_out))));
  skip_gradient_ = gradient;
  return gradient;
}

// Vectors of latents: the owned part. Then, with replicas, all that the owners have made.
template <class T>
absl::Status SaeEngine<T>::UpdateVectors(double scale) {
  using P = model::Parameters<T>;
  const kernels::Adam adam = AdamAt(step_ + 1);
  T* skip = nullptr;
  if (context_.options.skip) {
    SAE_ASSIGN_OR_RETURN(skip, SkipGradient());
  }
  {
    PhaseTimer timer(phases_.update);
    const auto update = [&](auto member, T* gradient, std::int64_t first, const kernels::Adam& a) {
      auto& m = moments_.m.*member;
      optim::UpdateVector(a, scale, (parameters_.*member).data() + first, m.data(),
                          (moments_.v.*member).data(), gradient + first,
                          static_cast<std::int64_t>(m.size()), context_.pool);
    };
    const std::int64_t first = context_.Owned().first;
    if (skip != nullptr) update(&P::w_skip, skip, 0, adam);
    update(&P::b_enc, gradients_.b_enc.data(), first, adam);
    if (!parameters_.b_mag.empty()) {
      update(&P::b_mag, gradients_.b_mag.data(), first, adam);
      update(&P::r_mag, gradients_.r_mag.data(), first, adam);
    }
    if (!parameters_.threshold.empty()) {
      kernels::Adam own = adam;
      // Its own rate, the run's schedule.
      own.lr = ThresholdRate() * adam.lr / *context_.config.train.lr;
      update(&P::threshold, gradients_.threshold.data(), first, own);
    }
    update(&P::b_dec, bias_gradient_.data(), 0, adam);
  }
  return reducer_ == nullptr ? absl::OkStatus() : ShareOwned(&parameters_);
}

// The running mean takes the parameters before Adam; in OpenAI's order with unit decoder rows.
template <class T>
void SaeEngine<T>::ObserveMean() {
  if (ema_ == nullptr) return;
  if (context_.options.decoder == model::DecoderMode::kUnitBefore) {
    const std::int64_t d = context_.d_out;
    context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i)
        kernels::RenormaliseRow(d, parameters_.w_dec.data() + i * d);
    });
  }
  ema_->Observe(parameters_, context_.pool);
}

template <class T>
absl::Status SaeEngine<T>::CheckLoss() const {
  if (std::isfinite(losses_.total())) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("step ", step_, ": the loss is ", losses_.total(), " (reconstruction ",
                   losses_.main, ", sparsity ", losses_.penalty, ", AuxK ", losses_.aux,
                   "): lower train.lr, or look for huge or non-finite rows"));
}

template <class T>
void SaeEngine<T>::CountBytes() {
  step_bytes_.End(mesh_->world().traffic());
  product_ms_ = 0;
  for (const auto& worker : workspace_.workers) product_ms_ += worker.product_ms;
  mesh_->SetPurpose("other");
}

template <class T>
absl::Status SaeEngine<T>::FinishStep() {
  activation_->Commit();
  last_active_ = static_cast<std::int64_t>(sums_.entries);
  last_lr_ = schedule_.LearningRate(step_);
  last_lambda_ = LambdaNow();
  if (controller_)
    controller_->Observe(step_, sums_.active / static_cast<double>(batch_size_));
  ++step_;
  tokens_ += batch_size_;
  last_tokens_ = batch_.tokens();
  measured_ = false;
  return ResampleDue(step_) ? ResampleDead(batch_, main_.x_hat()) : absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::ResampleDead(const Batch<T>& batch, const T* x_hat) {
  CatchUpAll();
  return resampler_->Run(step_, batch, x_hat, &since_fired_, &parameters_, &moments_).status();
}

template <class T>
absl::Status SaeEngine<T>::MeasureLastStep() {
  if (measured_ || last_tokens_ == 0) return measure_status_;
  measured_ = true;
  if (columns_ != nullptr) {
    Phases ignored;
    measure_status_ = columns_->Reconstruction(main_.x_hat(), &ignored);
    if (!measure_status_.ok()) return measure_status_;
  }
  const std::size_t size = Size(last_tokens_ * context_.d_out);
  std::vector<T> scaled(size);
  std::vector<double> mean(Size(context_.d_out), 0.0);
  for (std::size_t i = 0; i < size; ++i) {
    scaled[i] = batch_.scale() * batch_.y()[i];
    mean[i % mean.size()] += static_cast<double>(scaled[i]) / static_cast<double>(last_tokens_);
  }
  measure_status_ = context_.MeanOverReplicas(std::span<double>(mean));
  if (!measure_status_.ok()) return measure_status_;
  model::ReconstructionAccumulator accumulator(mean);
  accumulator.Add(std::span<const T>(scaled), std::span<const T>(main_.x_hat(), size));
  measure_status_ = ReduceSums(&accumulator);
  last_reconstruction_ = accumulator.Result();
  return measure_status_;
}

template <class T>
absl::Status SaeEngine<T>::ReduceSums(model::ReconstructionAccumulator* sums) {
  if (replicas() == 1) return absl::OkStatus();
  std::vector<double> all = sums->Sums();
  SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduceSum(std::span<double>(all)));
  sums->SetSums(all);
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<std::map<std::string, double>> SaeEngine<T>::LastMetrics() {
  SAE_RETURN_IF_ERROR(MeasureLastStep());
  if (!measured_)
    return absl::FailedPreconditionError("metrics: no step has been made yet: call Step first");
  const auto n = static_cast<double>(context_.shard.latents);
  const model::ReconstructionMetrics& r = last_reconstruction_;
  std::map<std::string, double> out = {{"train.loss", losses_.total()},
                                       {"train.main_loss", losses_.main},
                                       {"train.fvu", r.fvu},
                                       {"train.explained_variance", r.explained_variance},
                                       {"train.gamma", r.gamma},
                                       {"train.cosine", r.cosine},
                                       {"train.l0", sums_.active / static_cast<double>(batch_size_)},
                                       {"train.dead_fraction", sums_.dead / n},
                                       {"lr", last_lr_},
                                       {"ms.encode", phases_.encode},
                                       {"ms.select", phases_.select},
                                       {"ms.exchange", phases_.exchange},
                                       {"ms.decode", phases_.decode},
                                       {"ms.backward", phases_.backward},
                                       {"ms.update", phases_.update}};
  if (context_.options.ranked()) {
    out["train.aux_loss"] = losses_.aux;
    out["ms.aux"] = phases_.aux;
  } else {
    out["train.penalty_loss"] = losses_.penalty;
    out["sparsity_coefficient"] = last_lambda_;
  }
  if (config::HasDenseStep(context_.config))
    out["dense_step"] = last_dense_ ? 1 : 0;
  if (context_.config.train.clip > 0) out["gradient_norm"] = last_norm_;
  // A step of dense products, and the screen of certified, are not timed product by product.
  if (!last_dense_ && !context_.options.certified && step_ms_ > 0) {
    const double threads = static_cast<double>(context_.pool.size());
    out["ms.product"] = product_ms_ / threads;
    out["non_gemm_share"] = std::max(0.0, 1 - product_ms_ / (threads * step_ms_));
  }
  step_bytes_.AddMetrics(&out);
  activation_->AddMetrics(&out);
  return out;
}

template <class T>
absl::StatusOr<std::vector<std::vector<std::int64_t>>> SaeEngine<T>::LastSelection() {
  if (last_tokens_ == 0)
    return absl::FailedPreconditionError("selection: no step since the start or an evaluation");
  std::vector<std::int64_t> own;  // (token, global id) pairs, token by token
  const std::int64_t first = context_.replica() * context_.batch();
  for (std::int64_t b = 0; b < last_tokens_; ++b) {
    const auto add = [&](std::int64_t local) {
      own.push_back(first + b);
      own.push_back(context_.shard.Global(local));
    };
    if (last_dense_) {
      for (std::int64_t i = 0; i < context_.shard.count; ++i) {
        if (dense_->active(b, i)) add(i);
      }
    } else {
      const kernels::Codes<T>& codes = entries_.codes;
      for (std::int64_t e = codes.indptr[Size(b)]; e < codes.indptr[Size(b) + 1]; ++e) {
        if (entries_.f()[e] > T(0)) add(codes.ids[Size(e)]);
      }
    }
  }
  std::vector<std::int64_t> counts(Size(mesh_->world().size()));
  const auto size = static_cast<std::int64_t>(own.size());
  SAE_RETURN_IF_ERROR(mesh_->world().AllGather(std::span<const std::int64_t>(&size, 1),
                                                      std::span<std::int64_t>(counts)));
  std::vector<std::int64_t> all(
      Size(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  SAE_RETURN_IF_ERROR(
      mesh_->world().AllGatherV(own.data(), all.data(), counts, DType::kI64));
  std::vector<std::vector<std::int64_t>> out(Size(batch_size_));
  for (std::size_t i = 0; i < all.size(); i += 2) out[Size(all[i])].push_back(all[i + 1]);
  for (auto& ids : out) std::sort(ids.begin(), ids.end());
  return out;
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
