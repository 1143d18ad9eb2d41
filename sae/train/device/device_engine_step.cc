// One optimizer step, enqueued.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "sae/kernels/row_ops.h"
#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"
#include "sae/train/engine/step_rules.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

namespace {
constexpr int kEagerSteps = 2;  // before a capture: sizes settle first
constexpr int kTries = 40;

device::RowRule RuleOf(model::DecoderMode mode) {
  switch (mode) {
    case model::DecoderMode::kUnitBefore:
      return device::RowRule::kUnitBefore;
    case model::DecoderMode::kFree:
      return device::RowRule::kFree;
    case model::DecoderMode::kOnTheFly:
      return device::RowRule::kOnTheFly;
    case model::DecoderMode::kUnit:
      break;
  }
  return device::RowRule::kUnit;
}
}  // namespace

// Of the batch of all replicas: what each makes of it is its share of the loss.
double DeviceEngine::LossScale() const {
  const double tokens = static_cast<double>(context_.config.train.batch);
  const double d = static_cast<double>(context_.d_out);
  switch (context_.options.loss) {
    case model::LossReduction::kFvu:
      return 0;  // TargetTerms sets it
    case model::LossReduction::kMean:
      return 1 / (tokens * d);
    case model::LossReduction::kOpenAi:
      return sample_variance_ > 0 ? 1 / (tokens * sample_variance_) : 1 / (tokens * d);
    default:
      return 1 / tokens;
  }
}

double DeviceEngine::LambdaNow() const { return LambdaAt(context_, controller_, schedule_, step_); }

absl::Status DeviceEngine::Step(std::span<const float> rows) {
  const std::int64_t batch = context_.config.train.batch;
  const auto values = static_cast<std::int64_t>(rows.size());
  const bool part = values == context_.batch() * row_width();
  if (!(input_scale_ > 0)) {
    return absl::FailedPreconditionError(
        "step: the engine has no parameters yet: call Initialise, or load a state");
  }
  if (!part && values != batch * row_width()) {
    return absl::InvalidArgumentError(absl::StrCat("step: ", rows.size(),
                                                   " values: a step takes the whole batch of ",
                                                   batch, " rows of width ", row_width()));
  }
  SAE_RETURN_IF_ERROR(state_status_);
  SAE_RETURN_IF_ERROR(Stage(part ? rows : OwnPart(rows)));
  SAE_RETURN_IF_ERROR(Settle());
  began_ = std::chrono::steady_clock::now();
  SAE_RETURN_IF_ERROR(Take());
  last_tokens_ = 0;
  SAE_RETURN_IF_ERROR(BeginStep());
  pending_ = true;
  return host_->ResampleDue(step()) ? ResampleDead() : absl::OkStatus();
}

absl::Status DeviceEngine::BeginStep() {
  SAE_RETURN_IF_ERROR(ExtendHistory());
  const config::TrainConfig& train = context_.config.train;
  const kernels::Adam adam = kernels::Adam::At(step_ + 1, schedule_.LearningRate(step_),
                                               *train.beta1, train.beta2, *train.epsilon);
  *pinned_ = {};
  pinned_->adam = {adam.lr,          adam.beta1,       adam.beta2, adam.epsilon,
                   adam.correction1, adam.correction2, step_ + 1};
  pinned_->rho = LossScale();
  pinned_->lambda = LambdaNow() / static_cast<double>(context_.replicas());  // per own token
  SetAnnealedScalars();
  pinned_->finite = 1;
  pinned_->gradient_scale = 1;
  SAE_RETURN_IF_ERROR(WriteScalars());
  SAE_RETURN_IF_ERROR(RunStep());
  return ReadScalars();
}

// The step that the device works on ends, if there is one.
absl::Status DeviceEngine::Settle() {
  if (!pending_) return absl::OkStatus();
  pending_ = false;
  return SettleStep();
}

absl::Status DeviceEngine::SettleStep() {
  for (int tries = 0;; ++tries) {
    SAE_RETURN_IF_ERROR(Wait());
    last_ = *pinned_;
    if (last_.sums.overflow == 0 && last_.sums.dead_overflow == 0) break;
    if (tries == kTries)
      return absl::InternalError(absl::StrCat("step ", step_, ": buffers stay too small"));
    SAE_RETURN_IF_ERROR(Grow(last_.sums));
    SAE_RETURN_IF_ERROR(BeginStep());
  }
  last_.sums.dead /= static_cast<double>(context_.replicas());  // every replica counts them
  SAE_RETURN_IF_ERROR(CheckLoss());
  SAE_RETURN_IF_ERROR(runtime_.CopyAsync(parameters_->since_fired().data(), since_next_.data(),
                                         since_next_.bytes(), stream_));
  FinishStep();
  last_ms_ =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began_).count();
  return absl::OkStatus();
}

// Captured once sizes have settled, where nothing inside waits for the host.
absl::Status DeviceEngine::RunStep() {
  const bool capturable = world_->size() == 1 || parts_.stream_ordered;
  if (graph_ == nullptr && (!capturable || eager_steps_ < kEagerSteps)) {
    ++eager_steps_;
    return EnqueueStep();
  }
  if (graph_ == nullptr) {
    SAE_RETURN_IF_ERROR(runtime_.BeginCapture(stream_));
    const absl::Status enqueued = EnqueueStep();
    absl::StatusOr<void*> graph = runtime_.EndCapture(stream_);
    if (!enqueued.ok()) {
      if (graph.ok()) runtime_.DestroyGraph(*graph);
      return enqueued;
    }
    SAE_RETURN_IF_ERROR(graph.status());
    graph_ = *graph;
  }
  return runtime_.LaunchGraph(graph_, stream_);
}

absl::Status DeviceEngine::EnqueueStep() {
  SAE_RETURN_IF_ERROR(PrepareWeights());
  SAE_RETURN_IF_ERROR(Encode(true, &entries_));
  SAE_RETURN_IF_ERROR(CopyCounts());
  SAE_RETURN_IF_ERROR(entries_.BuildIndex(stream_));
  SAE_RETURN_IF_ERROR(CatchUpTouched(entries_));
  SAE_RETURN_IF_ERROR(TargetTerms());
  SAE_RETURN_IF_ERROR(MainLoss());
  device::SinceFiredParams fired;
  fired.codes = entries_.codes();
  fired.index = entries_.index();
  fired.f = entries_.f();
  fired.tokens = context_.config.train.batch;
  fired.dead_after = DeadAfter(context_.config);
  fired.since_before = parameters_->since_fired().data();
  fired.since = since_next_.data();
  fired.dead = &at()->dead;
  fired.ids = dead_ids_.data();
  fired.active = &at()->active;
  fired.scratch = dead_scratch_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::SinceFired(fired, stream_), "SinceFired"));
  SAE_RETURN_IF_ERROR(FiredAnywhere());
  if (multi()) {
    SAE_RETURN_IF_ERROR(WideLoss());
  }
  SAE_RETURN_IF_ERROR(Aux());
  if (rule() == device::LatentRule::kGated) {
    SAE_RETURN_IF_ERROR(GateLoss());
  }
  SAE_RETURN_IF_ERROR(LatentBackward());
  SAE_RETURN_IF_ERROR(BiasGradient());
  if (context_.options.skip) {
    SAE_RETURN_IF_ERROR(SkipGradient());
  }
  SAE_RETURN_IF_ERROR(Reduce());
  SAE_RETURN_IF_ERROR(ReduceGradients());
  SAE_RETURN_IF_ERROR(PrepareColumnRows());
  if (context_.config.train.clip > 0) {
    SAE_RETURN_IF_ERROR(Clip());
  }
  return Update();
}

// In a fixed order.
absl::Status DeviceEngine::Sum(const double* values, std::int64_t count, double* out) {
  device::SumParams sum;
  sum.values = values;
  sum.count = count;
  sum.scratch = sum_scratch_.data();
  sum.out = out;
  return Launched(cuda::Sum(sum, stream_), "Sum");
}

// Parts summed over ranks become gradients, group by group; token_squares_ what the loss sums.
absl::Status DeviceEngine::Residual(const device::Groups& groups, float* parts, float* x_hat) {
  device::PrefixResidualParams p;
  p.parts = parts;
  p.target = context_.options.transcoder ? y_.data() : x_.data();
  p.target_scale = batch_.scale();
  p.rho = &at()->rho;
  p.groups = groups;
  p.x_hat = x_hat;
  p.squares = token_squares_.data();
  p.tokens = batch_.tokens();
  p.d = context_.d_out;
  return Launched(cuda::PrefixResidual(p, stream_), "PrefixResidual");
}

absl::Status DeviceEngine::LatentGradients(const DeviceEntries& entries,
                                           const device::Groups& groups, const float* h, float* u) {
  device::LatentGradientParams p;
  p.codes = entries.codes();
  p.w = DecoderRows();
  p.row_scale = row_scale_.data();
  p.groups = groups;
  p.h = h;
  p.u = u;
  p.d = context_.d_out;
  return Launched(cuda::LatentGradient(p, stream_), "LatentGradient");
}

absl::Status DeviceEngine::MainLoss() {
  if (columns_ != nullptr) return ColumnLoss();
  const device::Groups groups = GroupsOf();
  const float* target = context_.options.transcoder ? y_.data() : x_.data();
  if (groups.count == 1 && collectives_->size() == 1 && !context_.options.skip &&
      !reconstructor_.on()) {
    device::TokenPassParams pass;
    pass.decode.codes = entries_.codes();
    pass.decode.f = entries_.f();
    pass.decode.w = DecoderRows();
    pass.decode.row_scale = row_scale_.data();
    pass.decode.bias = parameters_->Find("b_dec")->p.data();
    pass.decode.groups = groups;
    pass.decode.parts = parts_buffer_.data();
    pass.decode.d = context_.d_out;
    pass.target = target;
    pass.target_scale = batch_.scale();
    pass.rho = &at()->rho;
    pass.x_hat = x_hat_.data();
    pass.squares = token_squares_.data();
    pass.u = entries_.u();
    SAE_RETURN_IF_ERROR(Launched(cuda::TokenPass(pass, stream_), "TokenPass"));
    return Sum(token_squares_.data(), batch_.tokens(), &at()->squares);
  }
  SAE_RETURN_IF_ERROR(Decode(entries_, entries_.f(), true, parts_buffer_.data(), groups));
  SAE_RETURN_IF_ERROR(Residual(groups, parts_buffer_.data(), x_hat_.data()));
  SAE_RETURN_IF_ERROR(LatentGradients(entries_, groups, parts_buffer_.data(), entries_.u()));
  return Sum(token_squares_.data(), batch_.tokens(), &at()->squares);
}

// The gate's own reconstruction of ReLU(pi); v_ per entry.
absl::Status DeviceEngine::GateLoss() {
  if (columns_ != nullptr) return ColumnGateLoss();
  const device::Groups one = OneGroup();
  SAE_RETURN_IF_ERROR(Decode(entries_, gate_.data(), true, gate_parts_.data(), one));
  SAE_RETURN_IF_ERROR(Residual(one, gate_parts_.data(), gate_hat_.data()));
  SAE_RETURN_IF_ERROR(Sum(token_squares_.data(), batch_.tokens(), &at()->gate_squares));
  return LatentGradients(entries_, one, gate_parts_.data(), v_.data());
}

absl::Status DeviceEngine::AuxSelect() {
  device::EncodeParams encode = EncodeInput();
  encode.exact = !bf16();
  encode.ids = dead_ids_.data();
  encode.id_count = &at()->dead;
  encode.id_limit = capacity_.dead;
  FixShape(&encode);
  SAE_RETURN_IF_ERROR(aux_topk_.Select(library_, encode, *collectives_, &aux_entries_, stream_));
  return aux_entries_.BuildIndex(stream_);
}

// What AuxK's error is multiplied by, from the variance of the residual.
absl::Status DeviceEngine::AuxScale() {
  device::AuxScaleParams scale;
  scale.variance = &at()->aux_variance;
  scale.dead = &at()->all_dead;
  scale.alpha_variance =
      AlphaVariance(context_, sample_variance_) / static_cast<double>(context_.replicas());
  scale.tokens = batch_.tokens();
  scale.d = context_.d_out;
  scale.share = &at()->aux_scale;
  scale.factor = &at()->aux_factor;
  scale.enabled = &at()->aux_enabled;
  return Launched(cuda::AuxScale(scale, stream_), "AuxScale");
}

absl::Status DeviceEngine::Aux() {
  if (context_.config.sae.aux_k.value_or(0) == 0 || !context_.options.ranked())
    return absl::OkStatus();
  device::CheckCapacityParams check{&at()->dead, capacity_.dead, &at()->dead_overflow};
  SAE_RETURN_IF_ERROR(Launched(cuda::CheckCapacity(check, stream_), "CheckCapacity"));
  if (capacity_.dead == 0) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(AuxSelect());
  SAE_RETURN_IF_ERROR(CatchUpTouched(aux_entries_));
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(&at()->all_dead, &at()->dead, sizeof(std::int32_t), stream_));
  SAE_RETURN_IF_ERROR(collectives_->Sum(&at()->all_dead, 1));
  if (columns_ != nullptr) return ColumnAux();
  const device::Groups one = OneGroup();
  SAE_RETURN_IF_ERROR(Decode(aux_entries_, aux_entries_.f(), false, aux_g_.data(), one));
  const float* target = context_.options.transcoder ? y_.data() : x_.data();
  const std::int64_t tokens = batch_.tokens(), d = context_.d_out;
  device::ResidualVarianceParams variance{x_hat_.data(),   target,
                                          batch_.scale(),  column_means_.data(),
                                          partial_.data(), &at()->aux_variance,
                                          tokens,          d};
  SAE_RETURN_IF_ERROR(Launched(cuda::ResidualVariance(variance, stream_), "ResidualVariance"));
  SAE_RETURN_IF_ERROR(AuxVarianceOfAll());
  SAE_RETURN_IF_ERROR(AuxScale());
  device::AuxResidualParams residual;
  residual.out = aux_g_.data();
  residual.x_hat = x_hat_.data();
  residual.target = target;
  residual.target_scale = batch_.scale();
  residual.factor = &at()->aux_factor;
  residual.enabled = &at()->aux_enabled;
  residual.squares = token_squares_.data();
  residual.tokens = tokens;
  residual.d = d;
  SAE_RETURN_IF_ERROR(Launched(cuda::AuxResidual(residual, stream_), "AuxResidual"));
  SAE_RETURN_IF_ERROR(Sum(token_squares_.data(), batch_.tokens(), &at()->aux_squares));
  return LatentGradients(aux_entries_, one, aux_g_.data(), aux_entries_.u());
}

absl::Status DeviceEngine::LatentBackward() {
  device::LatentRuleParams p;
  p.rule = rule();
  p.codes = entries_.codes();
  p.index = entries_.index();
  p.f = entries_.f();
  p.u = entries_.u();
  p.v = v_.data();
  p.gate = gate_.data();
  p.theta = theta_.data();
  p.scale = scale_.data();
  p.norms = norms_.data();
  p.lambda = &at()->lambda;
  p.bandwidth = bandwidth_;
  p.frequency_coefficient = context_.config.sae.frequency_coefficient;
  p.log_threshold = context_.options.threshold == model::ThresholdParameter::kLog;
  p.delta = entries_.delta();
  p.delta_sums = delta_sums_.data();
  p.b_enc = d_b_enc_.data();
  p.b_mag = d_b_mag_.data();
  p.r_mag = d_r_mag_.data();
  p.threshold = d_threshold_.data();
  p.norm = d_norm_.data();
  p.penalty = latent_penalty_.data();
  SAE_RETURN_IF_ERROR(BeforeRule(&p));
  SAE_RETURN_IF_ERROR(Launched(cuda::LatentRuleBackward(p, stream_), "LatentRuleBackward"));
  SAE_RETURN_IF_ERROR(SumOfLatents(latent_penalty_.data(), &at()->penalty));
  SAE_RETURN_IF_ERROR(AfterRule());
  if (multi()) {
    SAE_RETURN_IF_ERROR(AddBackward(wide_entries_, nullptr));
  }
  return capacity_.dead == 0 ? absl::OkStatus() : AddBackward(aux_entries_, &at()->aux_enabled);
}

// Of codes beside the main ones.
absl::Status DeviceEngine::AddBackward(const DeviceEntries& entries, const std::int32_t* enabled) {
  device::LatentRuleParams p;
  p.codes = entries.codes();
  p.index = entries.index();
  p.u = entries.u();
  p.delta = entries.delta();
  p.delta_sums = delta_sums_.data();
  p.b_enc = d_b_enc_.data();
  p.add_sums = true;
  p.enabled = enabled;
  return Launched(cuda::LatentRuleBackward(p, stream_), "LatentRuleBackward");
}

// Sums over tokens of dL/dx_hat.
absl::Status DeviceEngine::DecoderBias() {
  device::ColumnSumsParams columns;
  columns.m = parts_buffer_.data();
  columns.rows = batch_.tokens();
  columns.d = context_.d_out;
  columns.scratch = column_scratch_.data();
  columns.out = d_b_dec_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
  if (multi()) {
    columns.m = wide_g_.data();
    columns.add = true;
    SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
  }
  if (capacity_.dead > 0) {
    columns.m = aux_g_.data();
    columns.add = true;
    columns.enabled = &at()->aux_enabled;
    SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
  }
  return absl::OkStatus();
}

// b_dec's gradient: of the decoder's side, minus the encoder's term of all ranks.
absl::Status DeviceEngine::BiasGradient() {
  SAE_RETURN_IF_ERROR(columns_ != nullptr ? ColumnBias() : DecoderBias());
  SAE_RETURN_IF_ERROR(BiasOnlyTerm());
  if (!context_.options.pre_bias) return absl::OkStatus();
  if (reconstructor_.on()) {
    SAE_RETURN_IF_ERROR(
        reconstructor_.WeightedRowSum(delta_sums_.data(), EncoderRows(), encoder_sums_.data()));
  } else {
    device::WeightedRowSumParams rows;
    rows.weights = delta_sums_.data();
    rows.w = EncoderRows();
    rows.rows = context_.shard.count;
    rows.d = context_.d;
    rows.scratch = column_scratch_.data();
    rows.out = encoder_sums_.data();
    SAE_RETURN_IF_ERROR(Launched(cuda::WeightedRowSum(rows, stream_), "WeightedRowSum"));
    SAE_RETURN_IF_ERROR(collectives_->Sum(encoder_sums_.data(), context_.d));
  }
  device::SubtractParams subtract{d_b_dec_.data(), encoder_sums_.data(), context_.d_out};
  return Launched(cuda::Subtract(subtract, stream_), "Subtract");
}

absl::Status DeviceEngine::Reduce() {
  device::CollectSumsParams collect;
  collect.active = &at()->active;
  collect.entries = entries_.count();
  collect.penalty = &at()->penalty;
  collect.dead = &at()->dead;
  collect.finite = &at()->finite;
  collect.overflow = &at()->overflow;
  collect.dead_overflow = &at()->dead_overflow;
  collect.sums = &at()->sums;
  SAE_RETURN_IF_ERROR(Launched(cuda::CollectSums(collect, stream_), "CollectSums"));
  SAE_RETURN_IF_ERROR(world_->Sum(&at()->sums.active, sizeof(device::StepSums) / sizeof(double)));
  device::DecideParams decide;
  decide.sums = &at()->sums;
  decide.squares = &at()->squares;
  decide.rho = &at()->rho;
  decide.main = &at()->main_loss;
  if (rule() == device::LatentRule::kGated || multi()) {
    decide.gate_squares = &at()->gate_squares;
    decide.gate = &at()->gate_loss;
  }
  if (capacity_.dead > 0) {
    decide.aux_squares = &at()->aux_squares;
    decide.aux_scale = &at()->aux_scale;
    decide.aux = &at()->aux_loss;
  }
  decide.go = &at()->go;
  SAE_RETURN_IF_ERROR(Launched(cuda::Decide(decide, stream_), "Decide"));
  return ReduceLosses();
}

device::RowUpdateParams DeviceEngine::RowParams() {
  device::RowUpdateParams p = GradientInput();
  if (context_.replicas() > 1) UseReducedRows(&p);
  return p;
}

device::RowUpdateParams DeviceEngine::GradientInput() {
  device::RowUpdateParams p;
  p.latents = context_.shard.count;
  p.d = context_.d;
  p.d_out = context_.d_out;
  p.x = bf16() ? nullptr : x_.data();
  p.x_bf16 = x_bf16_.data();
  p.scale = batch_.scale();
  if (context_.options.pre_bias) p.b_dec = parameters_->Find("b_dec")->p.data();
  p.delta_sums = delta_sums_.data();
  p.norm_gradient = d_norm_.data();
  p.dense_delta = dense_delta_.data();
  p.x_sum = x_sum_.data();
  const device::Groups groups = GroupsOf();
  const std::int64_t values = batch_.tokens() * context_.d_out;
  for (int g = 0; g < groups.count; ++g) {
    device::RowTerm& term = p.terms[p.terms_count++];
    term.index = entries_.index();
    term.rows = entries_.codes().rows;
    term.f = entries_.f();
    term.delta = entries_.delta();
    term.g = parts_buffer_.data() + g * values;
    term.first_latent = g == 0 ? 0 : groups.last[g - 1];
    term.last_latent = groups.last[g];
  }
  const auto add = [&](const DeviceEntries& entries, const float* g, const std::int32_t* enabled) {
    device::RowTerm& term = p.terms[p.terms_count++];
    term.index = entries.index();
    term.rows = entries.codes().rows;
    term.f = entries.f();
    term.delta = entries.delta();
    term.g = g;
    term.enabled = enabled;
  };
  if (multi()) add(wide_entries_, wide_g_.data(), nullptr);
  if (capacity_.dead > 0) add(aux_entries_, aux_g_.data(), &at()->aux_enabled);
  p.rule = RuleOf(context_.options.decoder);
  p.w_enc = parameters_->w_enc().mutable_weights();
  p.w_dec = parameters_->w_dec().mutable_weights();
  p.enc_moments = parameters_->w_enc().moments();
  p.dec_moments = parameters_->w_dec().moments();
  (deferred() ? p.decoder_step : p.last_step) = last_step_.data();
  p.row_scale = row_scale_.data();
  p.adam = &at()->adam;
  p.gradient_scale = &at()->gradient_scale;
  p.go = &at()->go;
  p.seed = static_cast<std::uint64_t>(context_.config.train.seed);
  p.global_ids = global_ids_.data();
  p.norms = row_norms_.data();
  if (columns_ != nullptr) UseEncoderAlone(&p);
  return p;
}

absl::Status DeviceEngine::Clip() {
  device::RowUpdateParams rows = RowParams();
  rows.measure_only = true;
  SAE_RETURN_IF_ERROR(Launched(cuda::RowUpdate(rows, stream_), "RowUpdate"));
  const auto squares = [&](const float* v, std::int64_t count, double* out, bool add) {
    if (count == 0) return absl::OkStatus();
    device::SumSquaresParams p{v, count, add, sum_scratch_.data(), out};
    return Launched(cuda::SumSquares(p, stream_), "SumSquares");
  };
  if (reconstructor_.on()) {
    SAE_RETURN_IF_ERROR(FixedLatentNorm2());
  } else {
    SAE_RETURN_IF_ERROR(Sum(row_norms_.data(), OwnLatents(), &at()->shard_norm2));
    const std::int64_t first = context_.Owned().first;
    for (const DeviceBuffer<float>* v : {&d_b_enc_, &d_b_mag_, &d_r_mag_, &d_threshold_}) {
      if (v->count() == 0) continue;
      SAE_RETURN_IF_ERROR(squares(v->data() + first, OwnLatents(), &at()->shard_norm2, true));
    }
  }
  SAE_RETURN_IF_ERROR(world_->Sum(&at()->shard_norm2, 1));
  SAE_RETURN_IF_ERROR(squares(d_b_dec_.data(), d_b_dec_.count(), &at()->shared_norm2, false));
  SAE_RETURN_IF_ERROR(squares(d_w_skip_.data(), d_w_skip_.count(), &at()->shared_norm2, true));
  SAE_RETURN_IF_ERROR(ColumnSquaredNorm());
  device::ClipScaleParams clip{&at()->shard_norm2, &at()->shared_norm2, context_.config.train.clip,
                               &at()->norm, &at()->gradient_scale};
  return Launched(cuda::ClipScale(clip, stream_), "ClipScale");
}

// Thresholds have a rate of their own and the run's schedule.
double DeviceEngine::ThresholdFactor() const {
  return ThresholdRate(context_.config.sae, bandwidth_) / *context_.config.train.lr;
}

absl::Status DeviceEngine::UpdateVectors() {
  const auto update = [&](const char* name, const DeviceBuffer<float>& gradient, double factor) {
    DeviceVector* vector = parameters_->Find(name);
    if (vector == nullptr) return absl::OkStatus();
    device::AdamVectorParams p;
    // Owned latents, or all of what is no latent's.
    const std::int64_t first = vector->m.count() < vector->count() ? context_.Owned().first : 0;
    p.p = vector->p.data() + first;
    p.m = vector->m.data();
    p.v = vector->v.data();
    p.gradient = gradient.data() + first;
    p.count = vector->m.count();
    p.adam = &at()->adam;
    p.lr_factor = factor;
    p.gradient_scale = &at()->gradient_scale;
    p.go = &at()->go;
    return Launched(cuda::AdamVector(p, stream_), "AdamVector");
  };
  SAE_RETURN_IF_ERROR(update("b_enc", d_b_enc_, 1));
  SAE_RETURN_IF_ERROR(update("b_mag", d_b_mag_, 1));
  SAE_RETURN_IF_ERROR(update("r_mag", d_r_mag_, 1));
  SAE_RETURN_IF_ERROR(update("threshold", d_threshold_, ThresholdFactor()));
  SAE_RETURN_IF_ERROR(update("W_skip", d_w_skip_, 1));
  return update("b_dec", d_b_dec_, 1);
}

// The running mean takes the parameters before Adam.
absl::Status DeviceEngine::Update() {
  if (parameters_->has_ema()) {
    const double mu = context_.config.train.ema;
    for (DeviceMatrix* matrix : {&parameters_->w_enc(), &parameters_->w_dec()}) {
      device::EmaParams p;
      p.w = matrix->weights();
      p.mean = matrix->ema.data();
      p.count = matrix->rows * matrix->d;
      p.mu = mu;
      p.go = &at()->go;
      SAE_RETURN_IF_ERROR(Launched(cuda::Ema(p, stream_), "Ema"));
    }
    for (DeviceVector& vector : parameters_->vectors()) {
      device::EmaParams p;
      p.p = vector.p.data();
      p.mean = vector.ema.data();
      p.count = vector.count();
      p.mu = mu;
      p.go = &at()->go;
      SAE_RETURN_IF_ERROR(Launched(cuda::Ema(p, stream_), "Ema"));
    }
  }
  device::RowUpdateParams rows = RowParams();
  if (last_step_.count() > 0) rows.norms = nullptr;  // rows at rest cost nothing
  SAE_RETURN_IF_ERROR(Launched(cuda::RowUpdate(rows, stream_), "RowUpdate"));
  SAE_RETURN_IF_ERROR(UpdateColumns());
  SAE_RETURN_IF_ERROR(UpdateVectors());
  return ShareOwned();
}

absl::Status DeviceEngine::CheckLoss() const {
  const double total = last_.main_loss + last_.sums.penalty + last_.gate_loss + last_.aux_loss;
  if (std::isfinite(total) && last_.sums.not_finite == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "step ", step_, ": the loss is ", last_.sums.not_finite > 0 ? std::nan("") : total,
      " (reconstruction ", last_.main_loss, ", sparsity ",
      last_.sums.penalty + (multi() ? 0 : last_.gate_loss), ", AuxK ",
      last_.aux_loss + (multi() ? last_.gate_loss : 0),
      "): lower train.lr, or look for huge or non-finite rows"));
}

// Of the smallest kept value, as BatchTopKActivation::Commit.
void DeviceEngine::CommitThreshold() {
  const auto smallest = static_cast<double>(last_.smallest);
  if (!(smallest > 0) || !std::isfinite(smallest)) return;
  FoldThreshold(context_.config, smallest, &threshold_mean_, &threshold_weight_);
}

void DeviceEngine::FinishStep() {
  CommitThreshold();
  CommitAnneal();
  const std::int64_t batch = context_.config.train.batch;
  last_lr_ = schedule_.LearningRate(step_);
  last_lambda_ = LambdaNow();
  if (controller_) controller_->Observe(step_, last_.sums.active / static_cast<double>(batch));
  ++step_;
  tokens_ += batch;
  last_tokens_ = batch_.tokens();
  measured_ = false;
}

}  // namespace sae::train
