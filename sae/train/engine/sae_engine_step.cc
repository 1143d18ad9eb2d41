// The forward and the backward of one optimizer step, sparse and dense; what follows is in
// sae_engine_update.cc.
#include <algorithm>
#include <cmath>
#include <span>
#include <type_traits>

#include "sae/kernels/row_ops.h"
#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/engine_gang.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
kernels::EncodeInput<T> SaeEngine<T>::EncodeInputOf() {
  kernels::EncodeInput<T> in;
  in.x = batch_.x();
  in.tokens = batch_.tokens();
  in.d = context_.d;
  in.w = parameters_.w_enc.data();
  in.c = c_.data();
  in.latents = context_.shard.count;
  in.scale = batch_.scale();
  if constexpr (std::is_same_v<T, float>) {
    in.screen = screen_.get();
    if (gang_ != nullptr) in.meeting = &meeting_;
  }
  return in;
}

template <class T>
void SaeEngine<T>::FoldBiases() {
  const bool bias = activation_->folds_encoder_bias();
  kernels::FoldBias(parameters_.w_enc.data(), bias ? parameters_.b_enc.data() : nullptr,
                    context_.options.pre_bias ? parameters_.b_dec.data() : nullptr,
                    context_.shard.count, context_.d, c_.data(), context_.pool);
}

template <class T>
absl::Status SaeEngine<T>::Encode(bool training) {
  {
    PhaseTimer timer(phases_.encode);
    FoldBiases();
    if constexpr (std::is_same_v<T, float>) {
      if (screen_ != nullptr) {
        screen_->Prepare(parameters_.w_enc.data(), context_.pool);
        const float* x = batch_.x();
        const kernels::ScreenTokens* shared =
            gang_ == nullptr ? nullptr
                             : gang_->Tokens(x, batch_.tokens(), context_.d, screen_->bf16(),
                                             context_.pool);
        if (shared != nullptr) {
          screen_->UseTokens(*shared);
        } else {
          screen_->PrepareTokens(x, batch_.tokens(), context_.pool);
        }
      }
    }
  }
  return activation_->Encode(EncodeInputOf(), training, &workspace_, &entries_, &phases_);
}

// |W_dec_i| where a penalty needs them, 1 / |v_i| where directions are normalised on the fly.
template <class T>
absl::Status SaeEngine<T>::UpdateNorms() {
  if (norms_.empty() && row_scale_.empty()) return absl::OkStatus();
  if (columns_ != nullptr) {
    const std::vector<double>* norm2 = &columns_->norm2();
    if (evaluates_mean_) {
      SAE_RETURN_IF_ERROR(
          columns_->MeasureNorms(parameters_.w_dec.data(), &mean_norm2_, &phases_));
      norm2 = &mean_norm2_;
    }
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      const auto global = Size(context_.shard.Global(static_cast<std::int64_t>(i)));
      norms_[i] = static_cast<T>(std::sqrt((*norm2)[global]));
    }
    return absl::OkStatus();
  }
  PhaseTimer timer(phases_.backward);
  const std::int64_t d = context_.d_out;
  constexpr double kFloor = 0x1.0p-24;
  context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double norm = std::sqrt(kernels::SumOfSquares(d, parameters_.w_dec.data() + i * d));
      if (!norms_.empty()) norms_[Size(i)] = static_cast<T>(norm);
      if (!row_scale_.empty()) row_scale_[Size(i)] = static_cast<T>(1 / std::max(norm, kFloor));
    }
  });
  return absl::OkStatus();
}

// rho of R(e) = rho sum e^2; FVU's depends on the batch.
template <class T>
double SaeEngine<T>::LossScale() const {
  const double tokens = static_cast<double>(batch_.tokens() > 0 ? batch_.tokens() : batch_size_);
  const double d = static_cast<double>(context_.d_out);
  switch (context_.options.loss) {
    case model::LossReduction::kMean: return 1 / (tokens * d);
    case model::LossReduction::kOpenAi:
      return sample_variance_ > 0 ? 1 / (tokens * sample_variance_) : 1 / (tokens * d);
    case model::LossReduction::kFvu: {
      if (batch_.tokens() == 0) return 1 / (tokens * std::max(sample_variance_, 1e-30));
      std::vector<double>& mean = target_mean_;
      mean.assign(Size(context_.d_out), 0.0);
      double squares = 0;
      for (std::int64_t b = 0; b < batch_.tokens(); ++b) {
        for (std::size_t j = 0; j < mean.size(); ++j) {
          const auto v = static_cast<double>(batch_.scale() *
                                             batch_.y()[Size(b) * mean.size() + j]);
          mean[j] += v;
          squares += v * v;
        }
      }
      for (const double m : mean) squares -= m * m / tokens;
      return squares > 0 ? 1 / squares : 1 / tokens;
    }
    case model::LossReduction::kSum: break;
  }
  return 1 / tokens;
}

// rho_ = D / sum of squares about the mean, both over all replicas: the mean of what each makes of
// it is the loss of the whole batch.
template <class T>
absl::Status SaeEngine<T>::ReduceLossScale() {
  rho_ = LossScale();
  if (context_.options.loss != model::LossReduction::kFvu || replicas() == 1)
    return absl::OkStatus();
  std::vector<double>& sums = target_mean_;  // of this replica's targets, then of their squares
  double squares = 1 / rho_;
  for (const double m : sums) squares += m * m / static_cast<double>(batch_.tokens());
  sums.push_back(squares);
  SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduceSum(std::span<double>(sums)));
  squares = sums.back();
  sums.pop_back();
  const auto tokens = static_cast<double>(batch_size_);
  for (const double m : sums) squares -= m * m / tokens;
  rho_ = squares > 0 ? static_cast<double>(replicas()) / squares : 1 / tokens;
  return absl::OkStatus();
}

template <class T>
typename MainLoss<T>::Input SaeEngine<T>::MainInput(double rho) const {
  typename MainLoss<T>::Input in;
  in.batch = &batch_;
  in.parameters = &parameters_;
  in.row_scale = row_scale_.empty() ? nullptr : row_scale_.data();
  in.rho = rho;
  in.columns = columns_.get();
  return in;
}

template <class T>
BackwardInput<T> SaeEngine<T>::BackwardInputOf(double rho, double mean_l0) {
  BackwardInput<T> in;
  in.batch = &batch_;
  in.parameters = &parameters_;
  in.row_scale = row_scale_.empty() ? nullptr : row_scale_.data();
  in.norms = norms_.empty() ? nullptr : norms_.data();
  in.reconstructor = &reconstructor_;
  in.skip = &main_.skip();
  in.columns = columns_.get();
  in.rho = rho;
  in.lambda = LambdaNow();
  in.mean_l0 = mean_l0;
  return in;
}

// The sparsity coefficient of this step.
template <class T>
double SaeEngine<T>::LambdaNow() {
  return LambdaAt(context_, controller_, schedule_, step_);
}

// The quadratic penalty looks at all ranks' L0 before the backward.
template <class T>
absl::StatusOr<double> SaeEngine<T>::MeanL0() {
  if (context_.options.penalty != model::Penalty::kL0Quadratic) return 0;
  std::int64_t active = entries_.active();
  PhaseTimer timer(phases_.exchange);
  SAE_RETURN_IF_ERROR(mesh_->world().AllReduceSum(std::span<std::int64_t>(&active, 1)));
  return static_cast<double>(active) / static_cast<double>(batch_.tokens() * replicas());
}

template <class T>
bool SaeEngine<T>::UsesDense() const {
  const double entries = static_cast<double>(batch_size_) *
                         static_cast<double>(context_.shard.latents);
  return config::HasDenseStep(context_.config) &&
         static_cast<double>(last_active_) >= dense_density_ * entries;
}

// Well below the switch its memory serves nothing any more.
template <class T>
void SaeEngine<T>::FreeDense() {
  const double entries = static_cast<double>(batch_size_) *
                         static_cast<double>(context_.shard.latents);
  if (static_cast<double>(last_active_) < dense_density_ * entries / 2) dense_.reset();
}

template <class T>
absl::Status SaeEngine<T>::Step(std::span<const float> rows) {
  SAE_RETURN_IF_ERROR(CheckReady(rows, "step"));
  const auto values = static_cast<std::int64_t>(rows.size());
  const bool part = values == context_.batch() * row_width();
  if (!part && values != batch_size_ * row_width()) {
    return absl::InvalidArgumentError(absl::StrCat("step: ", rows.size(),
                                                   " values: a step takes the whole batch of ",
                                                   batch_size_, " rows of width ", row_width()));
  }
  phases_ = {};
  losses_ = {};
  step_ms_ = 0;
  for (auto& worker : workspace_.workers) worker.product_ms = 0;
  step_bytes_.Begin(mesh_->world().traffic());
  last_tokens_ = 0;
  column_rows_.clear();
  skip_gradient_ = nullptr;
  batch_.Load(part ? rows : OwnPart(rows));
  SAE_RETURN_IF_ERROR(ReduceLossScale());
  SAE_RETURN_IF_ERROR(UpdateNorms());
  last_dense_ = UsesDense();
  if (!last_dense_) FreeDense();
  {
    PhaseTimer timer(step_ms_);
    SAE_RETURN_IF_ERROR(last_dense_ ? DenseStep() : SparseStep());
  }
  CountBytes();
  return FinishStep();
}

template <class T>
template <class Fired>
absl::Status SaeEngine<T>::CountTokensSinceFired(const Fired& fired) {
  if (replicas() > 1) {
    for (std::size_t i = 0; i < fired_.size(); ++i)
      fired_[i] = fired(static_cast<std::int64_t>(i)) ? 1 : 0;
    SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduce(fired_.data(), context_.shard.count,
                                                    DType::kU8, comm::ReduceOp::kMax));
    for (std::size_t i = 0; i < fired_.size(); ++i)
      since_fired_[i] = fired_[i] != 0 ? 0 : since_fired_[i] + batch_size_;
    return absl::OkStatus();
  }
  for (std::int64_t i = 0; i < context_.shard.count; ++i) {
    since_fired_[Size(i)] = fired(i) ? 0 : since_fired_[Size(i)] + batch_size_;
  }
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::RunAux() {
  if (wide_ != nullptr) {
    Entries<T>* wide = activation_->wide();
    {
      PhaseTimer timer(phases_.select);
      kernels::BuildLatentIndex(wide->codes, &wide->index, context_.pool);
    }
    CatchUpTouched(wide->index);
    SAE_RETURN_IF_ERROR(wide_->Run(MainInput(rho_), wide, &phases_));
    losses_.aux += wide_->loss();
  }
  if (aux_ == nullptr) return absl::OkStatus();
  typename AuxK<T>::Input in;
  in.encode = EncodeInputOf();
  in.batch = &batch_;
  in.tokens_since_fired = since_fired_.data();
  in.parameters = &parameters_;
  in.row_scale = row_scale_.empty() ? nullptr : row_scale_.data();
  in.x_hat = main_.x_hat();
  in.columns = columns_.get();
  in.alpha_variance = AlphaVariance(context_, sample_variance_);
  SAE_RETURN_IF_ERROR(aux_->Select(in, &workspace_, &phases_));
  if (aux_->active()) CatchUpTouched(aux_->index());
  SAE_RETURN_IF_ERROR(aux_->Run(in, &phases_));
  losses_.aux += aux_->loss();
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::SparseStep() {
  mesh_->SetPurpose("selection");
  SAE_RETURN_IF_ERROR(Encode(true));
  {
    PhaseTimer timer(phases_.select);
    kernels::BuildLatentIndex(entries_.codes, &entries_.index, context_.pool);
  }
  CatchUpTouched(entries_.index);
  mesh_->SetPurpose("decode");
  SAE_RETURN_IF_ERROR(main_.ForwardBackward(MainInput(rho_), &entries_, &phases_));
  losses_.main = main_.loss();
  SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<double>(&losses_.main, 1)));
  if (!std::isfinite(losses_.main)) return CheckLoss();
  {
    PhaseTimer timer(phases_.select);
    const T* f = entries_.f();
    const kernels::LatentIndex& index = entries_.index;
    SAE_RETURN_IF_ERROR(CountTokensSinceFired([&](std::int64_t i) {
      for (std::int64_t q = index.indptr[Size(i)]; q < index.indptr[Size(i) + 1]; ++q) {
        if (f[index.entries[Size(q)]] > T(0)) return true;
      }
      return false;
    }));
  }
  mesh_->SetPurpose("auxk");
  SAE_RETURN_IF_ERROR(RunAux());
  mesh_->SetPurpose("decode");  // the gate's reconstruction
  SAE_ASSIGN_OR_RETURN(const double mean_l0, MeanL0());
  SAE_ASSIGN_OR_RETURN(const PenaltyTerms penalty,
                       activation_->Backward(BackwardInputOf(rho_, mean_l0), &entries_, &gradients_,
                                             &phases_));
  CollectTerms();
  mesh_->SetPurpose("sums");
  SAE_RETURN_IF_ERROR(ReduceStep(penalty, entries_.active(), entries_.codes.nnz()));
  SAE_RETURN_IF_ERROR(CheckLoss());
  mesh_->SetPurpose("rows");
  kernels::RowGradientInput<T> input = RowInput();
  if (reducer_ != nullptr) {
    SAE_RETURN_IF_ERROR(reducer_->Reduce(input, parameters_.w_dec.data(), &phases_));
    input = reducer_->OwnedInput();
  }
  SAE_ASSIGN_OR_RETURN(const double scale, GradientScale(input));
  {
    PhaseTimer timer(phases_.update);
    ObserveMean();
    kernels::RowUpdate(input, RowOptions(scale), Rows(), &row_workspace_, context_.pool);
  }
  if (columns_ != nullptr) {
    SAE_RETURN_IF_ERROR(columns_->Update(ColumnStep(scale), &phases_));
  }
  return UpdateVectors(scale);
}

template <class T>
absl::Status SaeEngine<T>::DenseStep() {
  if (dense_ == nullptr) {
    dense_ = std::make_unique<train::DenseStep<T>>(context_, activation_->CreateDenseRule());
  }
  {
    PhaseTimer timer(phases_.encode);
    FoldBiases();
  }
  typename train::DenseStep<T>::Input in;
  in.batch = &batch_;
  in.parameters = &parameters_;
  in.c = c_.data();
  in.norms = norms_.empty() ? nullptr : norms_.data();
  in.skip = &main_.skip();
  in.rho = rho_;
  in.lambda = LambdaNow();
  mesh_->SetPurpose("decode");
  SAE_ASSIGN_OR_RETURN(const auto sums, dense_->ForwardBackward(in, main_.x_hat(), main_.g(),
                                                                &gradients_, &phases_));
  losses_.main = in.rho * sums.squared_error;
  SAE_RETURN_IF_ERROR(context_.MeanOverReplicas(std::span<double>(&losses_.main, 1)));
  SAE_RETURN_IF_ERROR(CountTokensSinceFired([&](std::int64_t i) { return dense_->fired(i); }));
  mesh_->SetPurpose("sums");
  SAE_RETURN_IF_ERROR(ReduceStep(sums.penalty, sums.active, sums.entries));
  SAE_RETURN_IF_ERROR(CheckLoss());
  mesh_->SetPurpose("rows");
  if (reducer_ != nullptr) {
    SAE_RETURN_IF_ERROR(
        reducer_->ReduceDense(dense_->w_enc_gradient(), dense_->w_dec_gradient(), &phases_));
  }
  {
    PhaseTimer timer(phases_.update);
    ObserveMean();
    if (reducer_ != nullptr) {
      kernels::RowUpdate(reducer_->OwnedInput(), RowOptions(1), Rows(), &row_workspace_,
                         context_.pool);
    } else {
      optim::UpdateFromDense(
          AdamAt(step_ + 1), step_ + 1, context_.options.decoder == model::DecoderMode::kUnit,
          dense_->w_enc_gradient(), dense_->w_dec_gradient(), parameters_, moments_, context_.pool);
    }
  }
  return UpdateVectors(1);
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
