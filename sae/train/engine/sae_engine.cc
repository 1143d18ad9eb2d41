// Creation and state; initial values in sae_engine_init.cc, steps in sae_engine_step.cc and
// sae_engine_update.cc, evaluation in sae_engine_evaluate.cc.
#include "sae/train/engine/sae_engine.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "sae/config/mesh.h"
#include "sae/train/engine/engine_gang.h"
#include "sae/train/engine/jumprelu.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

model::ParameterShape Shape(const Context& c) {
  return model::ShapeOf(c.options, c.shard, c.d, c.d_out);
}

model::ParameterShape OwnedShape(const Context& c) {
  model::ParameterShape shape = Shape(c);
  shape.count /= c.replicas();
  return shape;
}

bool NeedsNorms(const model::Options& o) {
  return o.decoder == model::DecoderMode::kFree &&
         (o.penalty == model::Penalty::kL1Norm || o.penalty == model::Penalty::kTanh);
}

}  // namespace

template <class T>
SaeEngine<T>::SaeEngine(const Context& context, std::unique_ptr<Mesh> mesh)
    : mesh_(std::move(mesh)),
      context_(context),
      batch_size_(context.config.train.batch),
      schedule_(optim::ScheduleOf(context.config)),
      dense_density_(config::DenseDensity(context.config)),
      parameters_(Shape(context)),
      moments_(OwnedShape(context),
               {optim::MomentFormatOf(context.config.train.moments),
                static_cast<std::uint64_t>(context.config.train.seed),
                [this](std::int64_t own) { return context_.shard.Global(context_.Owned().first + own); }}),
      since_fired_(Size(context.shard.count), 0),
      last_active_(batch_size_ * context.shard.latents / 2),
      batch_(context_),
      reconstructor_(context_),
      activation_(CreateActivation<T>(context_, parameters_)),
      main_(context_, reconstructor_),
      c_(Size(context.shard.count)),
      encoder_sums_(Size(context.d)),
      bias_gradient_(Size(context.d_out)),
      column_(Size(std::max(context.d, context.d_out))),
      x_sum_(Size(context.d)),
      meeting_(step_bytes_, *mesh_),
      evaluation_fired_(Size(context.shard.count)) {
  const model::Options& o = context_.options;
  const config::TrialConfig& config = context_.config;
  if (o.ranked() && config.sae.aux_k.value_or(0) > 0)
    aux_ = std::make_unique<AuxK<T>>(context_, reconstructor_);
  if (config.sae.multi_topk) wide_ = std::make_unique<WideLoss<T>>(context_, reconstructor_);
  if (config.sae.resample == "on") resampler_ = std::make_unique<Resampler<T>>(context_);
  if (config.train.ema > 0) {
    ema_ = std::make_unique<optim::Ema<T>>(Shape(context_), config.train.ema);
    swapped_ = std::make_unique<model::Parameters<T>>(Shape(context_));
  }
  if (config.sae.target_l0 > 0 && o.penalty != model::Penalty::kL0Quadratic) {
    controller_.emplace(config.sae.target_l0, config::TotalSteps(config),
                        config.train.sparsity_warmup_steps.value_or(0),
                        o.architecture == model::Architecture::kJumpRelu);
  }
  if (o.columns) columns_ = std::make_unique<ColumnDecoder<T>>(context_);
  if (context_.replicas() > 1) {
    reducer_ = std::make_unique<GradientReducer<T>>(context_);
    fired_.resize(since_fired_.size());
  }
  if (o.rows != model::RowMode::kDense) last_step_.resize(moments_.m.b_enc.size());
  if (NeedsNorms(o)) norms_.resize(since_fired_.size());
  if (o.decoder == model::DecoderMode::kOnTheFly) row_scale_.resize(since_fired_.size());
  if (o.certified) {
    if constexpr (std::is_same_v<T, float>)
      screen_ = std::make_unique<kernels::Screen>(context_.shard.count, context_.d, true);
  }
  const std::size_t n = since_fired_.size();
  gradients_.b_enc.resize(n);
  gradients_.delta_sums.resize(n);
  gradients_.b_mag.resize(parameters_.b_mag.size());
  gradients_.r_mag.resize(parameters_.r_mag.size());
  gradients_.threshold.resize(parameters_.threshold.size());
  gradients_.norm.resize(norms_.size());
  if (o.penalty == model::Penalty::kTanh) gradients_.dense_delta.resize(n);
}

template <class T>
void SaeEngine<T>::JoinGang(EngineGang* gang) {
  if constexpr (std::is_same_v<T, float>) {
    gang_ = gang;
    if (gang != nullptr) meeting_.set_gang(&gang->meeting());
    batch_.set_gang(gang);
  } else {
    (void)gang;
  }
}

template <class T>
model::State SaeEngine<T>::state() {
  return StateOf(context_.Owned());
}

template <class T>
model::State SaeEngine<T>::StateOf(LatentRange part, bool rows) {
  CatchUpAll();
  if (rows) AddColumnRows();
  std::size_t next = 0;  // of column_rows_
  model::State s;
  s.shard = context_.shard.Part(part.first, part.last);
  const bool log = context_.options.threshold == model::ThresholdParameter::kLog;
  const auto add = [&](const std::string& suffix, model::Parameters<T>& p) {
    for (auto& n : p.All(log)) {
      T* data = n.values->data();
      const bool columns = columns_ != nullptr && n.values == &p.w_dec;
      if (columns && rows) data = column_rows_[next++].data();
      if (columns && !rows) {
        const std::int64_t width = context_.d_out / kColumnBlocks;
        n.shape = {static_cast<std::int64_t>(n.values->size()) / width, width};
      } else if (n.per_latent && n.shape[0] == context_.shard.count) {  // else the owned ones alone
        const std::int64_t row = static_cast<std::int64_t>(n.values->size()) / n.shape[0];
        data += part.first * row;
        n.shape[0] = s.shard.count;
      }
      s.tensors.push_back({n.name + suffix, DTypeOf<T>(), n.shape, data, n.per_latent});
    }
  };
  add("", parameters_);
  add(".adam_m", moments_.m);
  add(".adam_v", moments_.v);
  if (moments_.reduced != nullptr) moments_.reduced->AddState(&s);
  s.scalars = {{"step", &step_},
               {"tokens", &tokens_},
               {"last_active", &last_active_},
               {"input_scale", &input_scale_},
               {"sample_variance", &sample_variance_}};
  if (ema_ != nullptr) {
    add(".ema", ema_->mean());
    s.scalars.push_back({"ema_weight", ema_->weight()});
  }
  s.tensors.push_back({"tokens_since_fired", DType::kI64, {s.shard.count},
                       since_fired_.data() + part.first, true});
  if (controller_) controller_->AddState(&s);
  activation_->AddState(&s);
  return s;
}

template <class T>
absl::Status SaeEngine<T>::StateLoaded() {
  last_tokens_ = 0;
  // A checkpoint holds rows that are current.
  std::fill(last_step_.begin(), last_step_.end(), step_);
  batch_.set_input_scale(input_scale_);
  const auto bad = [](const char* name, auto value, const char* want) {
    return absl::DataLossError(absl::StrCat("loaded state: ", name, " is ", value, ", not ", want,
                                            ": the checkpoint is damaged or of another program"));
  };
  if (!(input_scale_ > 0) || !std::isfinite(input_scale_))
    return bad("input_scale", input_scale_, "positive");
  if (!(sample_variance_ >= 0) || !std::isfinite(sample_variance_)) {
    return bad("sample_variance", sample_variance_, "0 or more");
  }
  if (step_ < 0) return bad("step", step_, "0 or more");
  if (tokens_ < 0) return bad("tokens", tokens_, "0 or more");
  if (last_active_ < 0) return bad("last_active", last_active_, "0 or more");
  if (columns_ != nullptr) return TakeColumnRows();
  if (reducer_ == nullptr) return absl::OkStatus();
  const LatentRange owned = context_.Owned();
  const std::vector<std::int64_t> fired(since_fired_.begin() + owned.first,
                                        since_fired_.begin() + owned.last);
  SAE_RETURN_IF_ERROR(mesh_->replicas().AllGather(std::span<const std::int64_t>(fired),
                                                  std::span<std::int64_t>(since_fired_)));
  if (ema_ != nullptr) {
    SAE_RETURN_IF_ERROR(ShareOwned(&ema_->mean()));
  }
  return ShareOwned(&parameters_);
}

// In the order in which state() takes them.
template <class T>
std::vector<kernels::AlignedVector<T>*> SaeEngine<T>::Columns() {
  std::vector<kernels::AlignedVector<T>*> out = {&parameters_.w_dec, &moments_.m.w_dec,
                                                 &moments_.v.w_dec};
  if (ema_ != nullptr) out.push_back(&ema_->mean().w_dec);
  return out;
}

// Whole rows of this rank's latents, as files hold them. A group that failed stays failed: whoever
// saves sees the error.
template <class T>
void SaeEngine<T>::AddColumnRows() {
  if (columns_ == nullptr) return;
  column_rows_.clear();
  for (const auto* columns : Columns()) {
    column_rows_.emplace_back(columns->size());
    columns_->ToRows(columns->data(), column_rows_.back().data()).IgnoreError();
  }
}

template <class T>
absl::Status SaeEngine<T>::TakeColumnRows() {
  const auto columns = Columns();
  for (std::size_t i = 0; i < column_rows_.size(); ++i) {
    *columns[i] = column_rows_[i];
    SAE_RETURN_IF_ERROR(columns_->ToColumns(columns[i]->data()));
  }
  return columns_->MeasureNorms(parameters_.w_dec.data(), &phases_);
}

template <class T>
absl::Status SaeEngine<T>::ShareOwned(model::Parameters<T>* parameters) {
  for (const auto& n : parameters->All(false)) {
    if (!n.per_latent) continue;
    const auto width = static_cast<std::int64_t>(n.values->size()) / context_.shard.count;
    SAE_RETURN_IF_ERROR(reducer_->Share(n.values->data(), width, &phases_));
  }
  return absl::OkStatus();
}

template <class T>
std::span<const float> SaeEngine<T>::OwnPart(std::span<const float> rows) const {
  const std::int64_t width = row_width(), replicas = context_.replicas();
  const std::int64_t all = static_cast<std::int64_t>(rows.size()) / width;
  const std::int64_t first = all * context_.replica() / replicas;
  const std::int64_t last = all * (context_.replica() + 1) / replicas;
  return rows.subspan(Size(first * width), Size((last - first) * width));
}

template <class T>
absl::Status SaeEngine<T>::CheckReady(std::span<const float> rows, const char* what) const {
  if (!(input_scale_ > 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": the engine has no parameters yet: call Initialise, or load a state"));
  }
  const auto size = static_cast<std::int64_t>(rows.size());
  const std::int64_t width = row_width();
  if (size > 0 && size % width == 0 && size / width <= batch_size_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", size, " values are not 1 to ",
                                                 batch_size_, " rows of width ", width));
}

template class SaeEngine<float>;
template class SaeEngine<double>;

template <class T>
absl::StatusOr<std::unique_ptr<SaeEngine<T>>> CreateSaeEngine(const config::TrialConfig& config,
                                                              std::int64_t d, std::int64_t d_out,
                                                              comm::Communicator& communicator,
                                                              ThreadPool& pool) {
  SAE_RETURN_IF_ERROR(config::Validate(config, d, config.sae.transcoder ? d_out : 0));
  if (d < 1 || d_out < 1)
    return absl::InvalidArgumentError(
        absl::StrCat("engine: width ", d, " to ", d_out, ": needs 1 or more"));
  if (!config.sae.transcoder && d != d_out) {
    return absl::InvalidArgumentError(absl::StrCat("engine: inputs of width ", d, ", outputs of ",
                                                   d_out, ": only a transcoder has two widths"));
  }
  if (communicator.size() != config.ranks) {
    return absl::InvalidArgumentError(absl::StrCat("engine: the config says ranks ", config.ranks,
                                                   " but ", communicator.size(),
                                                   " are running: start as many"));
  }
  const config::TrialConfig resolved = config::Resolve(config, d);
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<Mesh> mesh,
                       Mesh::Create(communicator, config::Replicas(resolved)));
  comm::Communicator& shards = mesh->shards();
  const Context context{
      resolved, model::OptionsOf(resolved),
      model::ShardOf(config.sae.latents, shards.size(), shards.rank()),
      d, d_out, shards, pool, *mesh};
  return std::make_unique<SaeEngine<T>>(context, std::move(mesh));
}

template <class T>
absl::StatusOr<std::unique_ptr<Engine<T>>> CreateEngine(const config::TrialConfig& config,
                                                        std::int64_t d, std::int64_t d_out,
                                                        comm::Communicator& communicator,
                                                        ThreadPool& pool) {
  return CreateSaeEngine<T>(config, d, d_out, communicator, pool);
}

#define SAE_INSTANTIATE(T)                                                                      \
  template absl::StatusOr<std::unique_ptr<SaeEngine<T>>> CreateSaeEngine(                       \
      const config::TrialConfig&, std::int64_t, std::int64_t, comm::Communicator&, ThreadPool&); \
  template absl::StatusOr<std::unique_ptr<Engine<T>>> CreateEngine(                             \
      const config::TrialConfig&, std::int64_t, std::int64_t, comm::Communicator&, ThreadPool&)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::train
