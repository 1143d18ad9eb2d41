// One optimizer step, sparse and dense, and its metrics.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/residual.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

// out[i] += sum of values over the entries of latent i, in float64, rounded once.
template <class T>
void AddByLatent(const kernels::LatentIndex& index, const T* values, std::vector<T>& out,
                 ThreadPool& pool) {
  pool.ParallelFor(
      static_cast<std::int64_t>(out.size()), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) {
          double sum = 0;
          for (std::int64_t q = index.indptr[Size(i)]; q < index.indptr[Size(i) + 1]; ++q) {
            sum += static_cast<double>(values[index.entries[Size(q)]]);
          }
          out[Size(i)] += static_cast<T>(sum);
        }
      });
}

}  // namespace

template <class T>
double SaeEngine<T>::L1Now() const {
  return topk_ ? 0 : context_.config.sae.l1_coefficient * schedule_.SparsityShare(step_);
}

template <class T>
bool SaeEngine<T>::UsesDense() const {
  if (topk_) return false;
  const double entries = static_cast<double>(batch_) * static_cast<double>(context_.shard.latents);
  return static_cast<double>(last_active_) >= dense_density_ * entries;
}

template <class T>
kernels::Adam SaeEngine<T>::AdamNow() const {
  const config::TrainConfig& t = context_.config.train;
  return kernels::Adam::At(step_ + 1, schedule_.LearningRate(step_), *t.beta1, t.beta2, *t.epsilon);
}

template <class T>
absl::Status SaeEngine<T>::Step(std::span<const float> rows) {
  SAE_RETURN_IF_ERROR(CheckReady(rows, "step"));
  if (static_cast<std::int64_t>(rows.size()) != batch_ * context_.d) {
    return absl::InvalidArgumentError(absl::StrCat("step: ", rows.size(),
                                                   " values: a step takes the whole batch of ",
                                                   batch_, " rows of width ", context_.d));
  }
  phases_ = {};
  losses_ = {};
  finite_ = true;
  last_tokens_ = 0;
  Load(rows);
  last_dense_ = UsesDense();
  SAE_RETURN_IF_ERROR(last_dense_ ? DenseStep() : SparseStep());
  FinishStep();
  return absl::OkStatus();
}

template <class T>
template <class Fired>
void SaeEngine<T>::CountTokensSinceFired(const Fired& fired) {
  for (std::int64_t i = 0; i < context_.shard.count; ++i) {
    since_fired_[Size(i)] = fired(i) ? 0 : since_fired_[Size(i)] + batch_;
  }
}

template <class T>
absl::Status SaeEngine<T>::RunAux() {
  if (aux_ == nullptr) return absl::OkStatus();
  typename AuxK<T>::Input in;
  in.encode = EncodeInputOf(batch_);
  in.tokens_since_fired = since_fired_.data();
  in.parameters = &parameters_;
  in.x_hat = x_hat_.data();
  in.alpha_variance = context_.config.sae.aux_alpha * sample_variance_;
  SAE_RETURN_IF_ERROR(aux_->Run(in, &workspace_, &phases_));
  losses_.aux = aux_->loss();
  return absl::OkStatus();
}

template <class T>
void SaeEngine<T>::SumDelta() {
  std::fill(delta_sums_.begin(), delta_sums_.end(), T(0));
  AddByLatent(index_, delta_.data(), delta_sums_, context_.pool);
  if (aux_ != nullptr && aux_->active())
    AddByLatent(aux_->index(), aux_->delta(), delta_sums_, context_.pool);
}

template <class T>
absl::Status SaeEngine<T>::ReduceStep(const T* delta_sums, StepSums local) {
  const std::int64_t d = context_.d;
  {
    PhaseTimer timer(phases_.backward);
    kernels::WeightedColumnSums(delta_sums, parameters_.w_enc.data(), context_.shard.count, d,
                                column_.data(), context_.pool);
    std::copy(column_.begin(), column_.end(), reduce_.begin());
    const std::int64_t dead_after = DeadAfter(context_.config);
    reduce_[Size(d)] = local.active;
    reduce_[Size(d) + 1] = local.l1;
    reduce_[Size(d) + 2] = static_cast<double>(std::count_if(
        since_fired_.begin(), since_fired_.end(), [&](std::int64_t t) { return t >= dead_after; }));
  }
  {
    PhaseTimer timer(phases_.exchange);
    SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<double>(reduce_)));
  }
  sums_ = {reduce_[Size(d)], reduce_[Size(d) + 1], reduce_[Size(d) + 2]};
  losses_.l1 = L1Now() * sums_.l1 / static_cast<double>(batch_);
  PhaseTimer timer(phases_.backward);
  kernels::ColumnSums(g_.data(), batch_, d, bias_gradient_.data(), context_.pool);
  if (aux_ != nullptr && aux_->active()) {
    kernels::ColumnSums(aux_->g(), batch_, d, column_.data(), context_.pool);
    for (std::int64_t j = 0; j < d; ++j) bias_gradient_[Size(j)] += column_[Size(j)];
  }
  for (std::int64_t j = 0; j < d; ++j) bias_gradient_[Size(j)] -= static_cast<T>(reduce_[Size(j)]);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::CheckLoss() const {
  if (std::isfinite(losses_.total())) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("step ", step_, ": the loss is ", losses_.total(), " (reconstruction ",
                   losses_.main, ", L1 ", losses_.l1, ", AuxK ", losses_.aux,
                   "): lower train.lr, or look for huge or non-finite rows"));
}

template <class T>
absl::Status SaeEngine<T>::SparseStep() {
  SAE_RETURN_IF_ERROR(Encode(batch_));
  SAE_RETURN_IF_ERROR(Decode(batch_));
  {
    PhaseTimer timer(phases_.decode);
    const double squares = Residual(x_.data(), inverse_scale(), x_hat_.data(), batch_, context_.d,
                                    T(2) / static_cast<T>(batch_), g_.data(), context_.pool);
    losses_.main = squares / static_cast<double>(batch_);
  }
  if (!std::isfinite(losses_.main)) return CheckLoss();
  {
    PhaseTimer timer(phases_.select);
    kernels::BuildLatentIndex(codes_, &index_);
    CountTokensSinceFired([&](std::int64_t i) { return !index_.empty(i); });
  }
  SAE_RETURN_IF_ERROR(RunAux());
  StepSums local;
  {
    PhaseTimer timer(phases_.backward);
    delta_.resize(Size(codes_.nnz()));
    kernels::LatentGradient(codes_, parameters_.w_dec.data(), g_.data(), context_.d, delta_.data(),
                            context_.pool);
    const T l1 = static_cast<T>(L1Now() / static_cast<double>(batch_));
    if (l1 != 0) {
      for (T& delta : delta_) delta += l1;
    }
    SumDelta();
    local.active = static_cast<double>(codes_.nnz());
    if (!topk_)
      local.l1 = std::accumulate(codes_.values.begin(), codes_.values.begin() + codes_.nnz(), 0.0);
  }
  SAE_RETURN_IF_ERROR(ReduceStep(delta_sums_.data(), local));
  SAE_RETURN_IF_ERROR(CheckLoss());
  PhaseTimer timer(phases_.update);
  terms_.clear();
  terms_.push_back({&index_, codes_.values.data(), delta_.data(), g_.data()});
  if (aux_ != nullptr && aux_->active()) {
    terms_.push_back({&aux_->index(), aux_->codes().values.data(), aux_->delta(), aux_->g()});
  }
  const kernels::RowGradientInput<T> input{
      context_.shard.count,     context_.d, x_.data(), inverse_scale(),
      parameters_.b_dec.data(), terms_};
  kernels::RowUpdate(input, {AdamNow(), true, 1}, optim::RowsOf(parameters_, moments_),
                     &row_workspace_, context_.pool);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::DenseStep() {
  {
    PhaseTimer timer(phases_.encode);
    kernels::FoldBias(parameters_.w_enc.data(), parameters_.b_enc.data(), parameters_.b_dec.data(),
                      context_.shard.count, context_.d, c_.data(), context_.pool);
  }
  typename DenseRelu<T>::Input in;
  in.x = x_.data();
  in.scale = inverse_scale();
  in.tokens = batch_;
  in.c = c_.data();
  in.l1 = static_cast<T>(L1Now() / static_cast<double>(batch_));
  in.parameters = &parameters_;
  SAE_ASSIGN_OR_RETURN(const auto sums,
                       dense_->ForwardBackward(in, x_hat_.data(), g_.data(), &phases_));
  losses_.main = sums.squared_error / static_cast<double>(batch_);
  CountTokensSinceFired([&](std::int64_t i) { return dense_->fired()[Size(i)] != 0; });
  SAE_RETURN_IF_ERROR(
      ReduceStep(dense_->gradient().b_enc.data(), {static_cast<double>(sums.active), sums.l1, 0}));
  SAE_RETURN_IF_ERROR(CheckLoss());
  PhaseTimer timer(phases_.update);
  optim::UpdateFromDense(AdamNow(), dense_->gradient(), parameters_, moments_, context_.pool);
  return absl::OkStatus();
}

template <class T>
void SaeEngine<T>::FinishStep() {
  optim::UpdateDecoderBias(AdamNow(), bias_gradient_.data(), parameters_, moments_);
  last_active_ = static_cast<std::int64_t>(sums_.active);
  last_lr_ = schedule_.LearningRate(step_);
  last_l1_coefficient_ = L1Now();
  ++step_;
  tokens_ += batch_;
  last_tokens_ = batch_;
  measured_ = false;
}

template <class T>
void SaeEngine<T>::MeasureLastStep() {
  if (measured_ || last_tokens_ == 0) return;
  std::vector<T> scaled(x_.size());
  std::vector<double> mean(Size(context_.d), 0.0);
  for (std::size_t i = 0; i < x_.size(); ++i) {
    scaled[i] = inverse_scale() * x_[i];
    mean[i % mean.size()] += static_cast<double>(scaled[i]) / static_cast<double>(batch_);
  }
  model::ReconstructionAccumulator accumulator(mean);
  accumulator.Add(std::span<const T>(scaled), std::span<const T>(x_hat_));
  last_reconstruction_ = accumulator.Result();
  measured_ = true;
}

template <class T>
absl::StatusOr<std::map<std::string, double>> SaeEngine<T>::LastMetrics() {
  MeasureLastStep();
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
                                       {"train.l0", sums_.active / static_cast<double>(batch_)},
                                       {"train.dead_fraction", sums_.dead / n},
                                       {"lr", last_lr_},
                                       {"ms.encode", phases_.encode},
                                       {"ms.select", phases_.select},
                                       {"ms.exchange", phases_.exchange},
                                       {"ms.decode", phases_.decode},
                                       {"ms.backward", phases_.backward},
                                       {"ms.update", phases_.update}};
  if (topk_) {
    out["train.aux_loss"] = losses_.aux;
    out["ms.aux"] = phases_.aux;
  } else {
    out["train.l1_loss"] = losses_.l1;
    out["l1_coefficient"] = last_l1_coefficient_;
    out["dense_step"] = last_dense_ ? 1 : 0;
  }
  return out;
}

template <class T>
absl::StatusOr<std::vector<std::vector<std::int64_t>>> SaeEngine<T>::LastSelection() {
  if (last_tokens_ == 0)
    return absl::FailedPreconditionError("selection: no step since the start or an evaluation");
  std::vector<std::int64_t> own;  // (token, global id) pairs, token by token
  for (std::int64_t b = 0; b < batch_; ++b) {
    const auto add = [&](std::int64_t local) {
      own.push_back(b);
      own.push_back(context_.shard.Global(local));
    };
    if (last_dense_) {
      for (std::int64_t i = 0; i < context_.shard.count; ++i) {
        if (dense_->active(b, i)) add(i);
      }
    } else {
      for (std::int64_t e = codes_.indptr[Size(b)]; e < codes_.indptr[Size(b) + 1]; ++e)
        add(codes_.ids[Size(e)]);
    }
  }
  std::vector<std::int64_t> counts(Size(context_.communicator.size()));
  const auto size = static_cast<std::int64_t>(own.size());
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(std::span<const std::int64_t>(&size, 1),
                                                      std::span<std::int64_t>(counts)));
  std::vector<std::int64_t> all(
      Size(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGatherV(own.data(), all.data(), counts, DType::kI64));
  std::vector<std::vector<std::int64_t>> out(Size(batch_));
  for (std::size_t i = 0; i < all.size(); i += 2) out[Size(all[i])].push_back(all[i + 1]);
  for (auto& ids : out) std::sort(ids.begin(), ids.end());
  return out;
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
