// Creation, sizes and state; the step is in device_engine_step.cc and device_engine_forward.cc.
#include "sae/train/device/device_engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sae/config/mesh.h"
#include "sae/kernels/device/latents.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

namespace {

constexpr std::int64_t kFirstSlots = 256;
constexpr std::int64_t kFirstDead = 64;
constexpr std::int64_t kFirstTies = 4096;

absl::Status Lacks(const char* option, const std::string& value, const char* instead) {
  return absl::UnimplementedError(absl::StrCat(
      option, ": ", value, " is not built for devices: ", instead, ", or train on CPUs"));
}

bool NeedsNorms(const model::Options& o) {
  return o.decoder == model::DecoderMode::kFree &&
         (o.penalty == model::Penalty::kL1Norm || o.penalty == model::Penalty::kTanh);
}

}  // namespace

absl::Status SupportedOnDevice(const config::TrialConfig& c) {
  const model::Options o = model::OptionsOf(c);
  if (const std::string why = config::WhyOneReplicaOnDevice(c);
      config::Replicas(c) > 1 && !why.empty()) {
    return Lacks("train.replicas", absl::StrCat(*c.train.replicas),
                 absl::StrCat(why, ", or set replicas 1").c_str());
  }
  if (o.columns && c.train.selection == "bf16") {
    return Lacks("train.decoder_layout", "columns with train.selection bf16",
                 "set it to latents, or selection to certified");
  }
  constexpr std::int64_t kMost = kernels::device::kMaxTopK;
  const std::string at_most = absl::StrCat("use at most ", kMost);
  if (o.architecture == model::Architecture::kTopK && c.sae.k > kMost)
    return Lacks("sae.k", absl::StrCat(c.sae.k), at_most.c_str());
  if (c.sae.multi_topk && 4 * c.sae.k > kMost) {
    return Lacks("sae.multi_topk with sae.k", absl::StrCat(c.sae.k),
                 absl::StrCat("use at most ", kMost / 4).c_str());
  }
  if (o.ranked() && c.sae.aux_k.value_or(0) > kMost)
    return Lacks("sae.aux_k", absl::StrCat(*c.sae.aux_k), at_most.c_str());
  if (static_cast<int>(o.prefixes.size()) > kernels::device::kMaxGroups) {
    return Lacks("sae.prefixes", absl::StrCat(o.prefixes.size(), " widths"),
                 absl::StrCat("use at most ", kernels::device::kMaxGroups).c_str());
  }
  return absl::OkStatus();
}

DeviceEngine::DeviceEngine(const Context& context, std::unique_ptr<Mesh> mesh,
                           const DeviceParts& parts)
    : mesh_(std::move(mesh)),
      context_(context),
      parts_(parts),
      runtime_(*parts.runtime),
      schedule_(optim::ScheduleOf(context.config)),
      batch_(context_) {
  const config::TrialConfig& c = context_.config;
  if (c.sae.target_l0 > 0 && !Penalised(model::Penalty::kL0Quadratic)) {
    controller_.emplace(c.sae.target_l0, config::TotalSteps(c),
                        c.train.sparsity_warmup_steps.value_or(0),
                        context_.options.architecture == model::Architecture::kJumpRelu);
  }
  capacity_.slots = std::min(context_.shard.count, kFirstSlots);
  capacity_.ties = kFirstTies;
}

DeviceEngine::~DeviceEngine() {
  if (pending_) (void)Wait();
  DropGraph();
  device_mesh_.reset();
  kernels::cuda::DestroyDeviceLibrary(library_);
  if (pinned_ != nullptr) runtime_.FreePinned(pinned_);
  if (owns_stream_) runtime_.DestroyStream(stream_);
}

void DeviceEngine::DropGraph() {
  if (graph_ != nullptr) runtime_.DestroyGraph(graph_);
  graph_ = nullptr;
  eager_steps_ = 0;
}

absl::StatusOr<std::unique_ptr<Engine<float>>> DeviceEngine::Create(
    const config::TrialConfig& given, std::int64_t d, std::int64_t d_out,
    comm::Communicator& communicator, ThreadPool& pool, const DeviceParts& parts) {
  config::TrialConfig config = given;
  config::ResolveReplicasOnDevice(&config);
  SAE_RETURN_IF_ERROR(config::Validate(config, d, config.sae.transcoder ? d_out : 0));
  config::TrialConfig host_config = config;
  host_config.train.rows = "dense";  // the device alone knows which rows rest
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<SaeEngine<float>> host,
                       CreateSaeEngine<float>(host_config, d, d_out, communicator, pool));
  const config::TrialConfig resolved = config::Resolve(config, d);
  SAE_RETURN_IF_ERROR(SupportedOnDevice(resolved));
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<Mesh> mesh,
                       Mesh::Create(communicator, config::Replicas(resolved)));
  comm::Communicator& shards = mesh->shards();
  const Context context{resolved,
                        model::OptionsOf(resolved),
                        model::ShardOf(config.sae.latents, shards.size(), shards.rank()),
                        d,
                        d_out,
                        shards,
                        pool,
                        *mesh};
  std::unique_ptr<DeviceEngine> engine(new DeviceEngine(context, std::move(mesh), parts));
  engine->host_ = std::move(host);
  SAE_RETURN_IF_ERROR(engine->Allocate());
  return engine;
}

absl::Status DeviceEngine::Allocate() {
  SAE_RETURN_IF_ERROR(runtime_.BindThread());
  if (parts_.stream_ordered && parts_.collectives != nullptr && parts_.stream == nullptr) {
    return absl::InvalidArgumentError(
        "device engine: ordered collectives run on a stream: give the engine the same");
  }
  stream_ = parts_.stream;
  if (stream_ == nullptr) {
    SAE_ASSIGN_OR_RETURN(stream_, runtime_.CreateStream());
    owns_stream_ = true;
  }
  SAE_RETURN_IF_ERROR(CreateCollectives());
  const std::int64_t batch = context_.batch(), n = context_.shard.count;
  const std::int64_t d = context_.d, d_out = context_.d_out;
  SAE_ASSIGN_OR_RETURN(void* pinned, runtime_.AllocatePinned(sizeof(DeviceScalars)));
  pinned_ = static_cast<DeviceScalars*>(pinned);
  SAE_RETURN_IF_ERROR(inbox_.Create(runtime_, batch, d, context_.options.transcoder ? d_out : 0));
  SAE_ASSIGN_OR_RETURN(parameters_, DeviceParameters::Create(runtime_, host_->whole_state()));
  SAE_RETURN_IF_ERROR(
      Launched(kernels::cuda::CreateDeviceLibrary(&library_), "CreateDeviceLibrary"));
  SAE_RETURN_IF_ERROR(scalars_.Create(runtime_, 1, "scalars"));
  const auto floats = [&](DeviceBuffer<float>& buffer, std::int64_t count, const char* name) {
    return buffer.Create(runtime_, count, name);
  };
  const model::Options& o = context_.options;
  const bool gated = o.architecture == model::Architecture::kGated;
  const bool jump = o.architecture == model::Architecture::kJumpRelu;
  const auto groups = static_cast<std::int64_t>(o.prefixes.size());
  SAE_RETURN_IF_ERROR(floats(x_, batch * d, "x"));
  SAE_RETURN_IF_ERROR(x_bf16_.Create(runtime_, bf16() || o.certified ? batch * d : 0, "x in bf16"));
  SAE_RETURN_IF_ERROR(floats(y_, o.transcoder ? batch * d_out : 0, "y"));
  SAE_RETURN_IF_ERROR(floats(c_, n, "c"));
  SAE_RETURN_IF_ERROR(floats(norms_, NeedsNorms(o) ? n : 0, "norms"));
  SAE_RETURN_IF_ERROR(
      floats(row_scale_, o.decoder == model::DecoderMode::kOnTheFly ? n : 0, "row scale"));
  SAE_RETURN_IF_ERROR(floats(theta_, jump ? n : 0, "theta"));
  SAE_RETURN_IF_ERROR(
      floats(lower_, o.architecture == model::Architecture::kTopK ? 0 : n, "lower"));
  SAE_RETURN_IF_ERROR(floats(scale_, gated ? n : 0, "scale"));
  const std::int64_t decoded = batch * DecodedWidth();
  SAE_RETURN_IF_ERROR(floats(parts_buffer_, groups * decoded, "reconstruction parts"));
  SAE_RETURN_IF_ERROR(floats(x_hat_, decoded, "x_hat"));
  SAE_RETURN_IF_ERROR(floats(gate_parts_, gated ? decoded : 0, "gate parts"));
  SAE_RETURN_IF_ERROR(floats(gate_hat_, gated ? decoded : 0, "gate x_hat"));
  SAE_RETURN_IF_ERROR(floats(delta_sums_, n, "delta sums"));
  SAE_RETURN_IF_ERROR(floats(d_b_enc_, n, "b_enc gradient"));
  SAE_RETURN_IF_ERROR(floats(d_b_mag_, gated ? n : 0, "b_mag gradient"));
  SAE_RETURN_IF_ERROR(floats(d_r_mag_, gated ? n : 0, "r_mag gradient"));
  SAE_RETURN_IF_ERROR(floats(d_threshold_, jump ? n : 0, "threshold gradient"));
  SAE_RETURN_IF_ERROR(floats(d_norm_, NeedsNorms(o) ? n : 0, "norm gradient"));
  SAE_RETURN_IF_ERROR(floats(d_b_dec_, d_out, "b_dec gradient"));
  SAE_RETURN_IF_ERROR(floats(d_w_skip_, o.skip ? d_out * d : 0, "W_skip gradient"));
  const auto doubles = [&](DeviceBuffer<double>& buffer, std::int64_t count, const char* name) {
    return buffer.Create(runtime_, count, name);
  };
  SAE_RETURN_IF_ERROR(doubles(token_squares_, batch, "token squares"));
  SAE_RETURN_IF_ERROR(doubles(column_means_, d_out + 1, "column means"));
  SAE_RETURN_IF_ERROR(doubles(partial_, batch, "partial"));
  SAE_RETURN_IF_ERROR(doubles(sum_scratch_, 1024, "sum scratch"));
  SAE_RETURN_IF_ERROR(doubles(column_scratch_, kernels::device::kColumnParts * std::max(d, d_out),
                              "column scratch"));
  SAE_RETURN_IF_ERROR(doubles(encoder_sums_, d, "encoder sums"));
  SAE_RETURN_IF_ERROR(doubles(latent_penalty_, n, "latent penalty"));
  SAE_RETURN_IF_ERROR(doubles(row_norms_, o.columns ? context_.shard.latents : n, "row norms"));
  SAE_RETURN_IF_ERROR(AllocatePenalty());
  SAE_RETURN_IF_ERROR(AllocateRows());
  SAE_RETURN_IF_ERROR(AllocateReplicas());
  SAE_RETURN_IF_ERROR(CreateReconstructor());
  SAE_RETURN_IF_ERROR(AllocateColumns());
  SAE_RETURN_IF_ERROR(since_next_.Create(runtime_, n, "tokens since fired"));
  SAE_RETURN_IF_ERROR(evaluation_since_.Create(runtime_, n, "evaluation fired"));
  SAE_RETURN_IF_ERROR(dead_ids_.Create(runtime_, n, "dead latents"));
  SAE_RETURN_IF_ERROR(dead_scratch_.Create(runtime_, n + 1024, "dead scratch"));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    ids[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(context_.shard.Global(i));
  SAE_RETURN_IF_ERROR(global_ids_.Create(runtime_, n, "global ids"));
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(global_ids_.data(), ids.data(), global_ids_.bytes(), stream_));
  SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream_));
  SAE_RETURN_IF_ERROR(AllocateEntries());
  return AllocateWinners();
}

// Of the encoder: of all latents, and of dead ones, whichever is larger.
absl::Status DeviceEngine::AllocateScratch() {
  kernels::device::EncodeParams whole = EncodeInput();
  whole.tokens = context_.batch();
  kernels::device::EncodeParams subset = whole;
  subset.exact = !bf16();
  subset.ids = dead_ids_.data();
  subset.id_limit = context_.shard.count;
  FixShape(&subset);
  std::int64_t bytes = std::max(kernels::device::EncodeScratchBytes(whole),
                                kernels::device::EncodeScratchBytes(subset));
  if (context_.options.certified) {
    const bool topk = context_.options.architecture == model::Architecture::kTopK;
    bytes =
        std::max(bytes, topk ? kernels::device::CertifiedScratchBytes(whole, SelectedK())
                             : kernels::device::CertifiedSlotsScratchBytes(whole, capacity_.slots));
  }
  return encode_scratch_.Create(runtime_, bytes, "encoder scratch");
}

// What depends on capacity_.slots.
absl::Status DeviceEngine::AllocateEntries() {
  SAE_RETURN_IF_ERROR(AllocateScratch());
  const std::int64_t batch = context_.batch(), n = context_.shard.count;
  const std::int64_t k = std::min(context_.config.sae.k, n);
  std::int32_t* overflow = &at()->overflow;
  const int ranks = collectives_->size();
  const bool topk = context_.options.architecture == model::Architecture::kTopK;
  if (topk) {
    const DeviceTopK::Shape shape{batch, SelectedK(), global_ids_.data(),
                                  context_.options.certified, multi() ? context_.config.sae.k : 0};
    SAE_RETURN_IF_ERROR(topk_.Create(runtime_, shape, ranks, overflow, capacity_.unsafe));
    if (multi()) {
      SAE_RETURN_IF_ERROR(AllocateWide());
    }
    return entries_.Create(runtime_, batch, batch * k, n, false);
  }
  const std::int64_t slots = capacity_.slots;
  SAE_RETURN_IF_ERROR(slots_.Create(runtime_, batch, slots, overflow));
  if (!varies()) {
    DeviceBatchTopK::Shape shape;
    shape.tokens = batch;
    shape.k = context_.config.sae.k;
    shape.latents = context_.shard.latents;
    shape.slot_capacity = slots;
    shape.ties = capacity_.ties;
    shape.global_ids = global_ids_.data();
    shape.replicas = context_.replicas();
    shape.replica = context_.replica();
    shape.certified = context_.options.certified;
    SAE_RETURN_IF_ERROR(batch_topk_.Create(runtime_, shape, world_->size(), overflow));
  }
  if (rule() == kernels::device::LatentRule::kGated) {
    SAE_RETURN_IF_ERROR(gate_.Create(runtime_, batch * slots, "gate"));
    SAE_RETURN_IF_ERROR(v_.Create(runtime_, batch * slots, "gate gradient"));
  }
  return entries_.Create(runtime_, batch, batch * slots, n, weighted());
}

absl::Status DeviceEngine::AllocateAux() {
  const std::int64_t batch = context_.batch();
  const std::int64_t k = *context_.config.sae.aux_k;
  const DeviceTopK::Shape shape{batch, k, global_ids_.data()};
  if (aux_g_.count() == 0) {
    SAE_RETURN_IF_ERROR(aux_g_.Create(runtime_, batch * DecodedWidth(), "AuxK gradient"));
  }
  SAE_RETURN_IF_ERROR(
      aux_topk_.Create(runtime_, shape, collectives_->size(), &at()->overflow, capacity_.unsafe));
  return aux_entries_.Create(runtime_, batch, batch * k, context_.shard.count, false);
}

// After a step that did not fit: more of what was short, on every rank alike. Memory is freed when
// nothing runs on its device: where ranks share one, no rank may wait for another there yet.
absl::Status DeviceEngine::Grow(const kernels::device::StepSums& sums) {
  SAE_RETURN_IF_ERROR(GrowBuffers(sums));
  return mesh_->world().Barrier();
}

absl::Status DeviceEngine::GrowBuffers(const kernels::device::StepSums& sums) {
  DropGraph();
  const std::int64_t batch = context_.batch(), n = context_.shard.count;
  if (sums.dead_overflow > 0) {
    // The fullest rank's number is not known here: twice the mean is a start.
    const auto dead = static_cast<std::int64_t>(sums.dead);
    capacity_.dead =
        std::min(n, std::max({kFirstDead, 2 * capacity_.dead, 2 * dead / world_->size()}));
    SAE_RETURN_IF_ERROR(AllocateAux());
    return AllocateWinners();
  }
  capacity_.slots = std::min(n, 2 * capacity_.slots);
  capacity_.ties = std::min(batch * n, 2 * capacity_.ties);
  capacity_.unsafe = batch;
  capacity_.winners *= 2;
  SAE_RETURN_IF_ERROR(AllocateEntries());
  if (capacity_.dead > 0) {
    SAE_RETURN_IF_ERROR(AllocateAux());
  }
  return AllocateWinners();
}

template <class V>
V* DeviceEngine::HostScalar(const std::string& name) {
  for (const model::StateScalar& scalar : host_->whole_state().scalars) {
    if (scalar.name != name) continue;
    V* const* value = std::get_if<V*>(&scalar.value);
    return value == nullptr ? nullptr : *value;
  }
  return nullptr;
}

void DeviceEngine::PullScalars() {
  step_ = *HostScalar<std::int64_t>("step");
  tokens_ = *HostScalar<std::int64_t>("tokens");
  input_scale_ = *HostScalar<double>("input_scale");
  sample_variance_ = *HostScalar<double>("sample_variance");
  const auto pull = [&](const char* name, double& to) {
    if (const double* value = HostScalar<double>(name)) to = *value;
  };
  pull("bandwidth", bandwidth_);
  pull("batch_threshold", threshold_mean_);
  pull("batch_threshold_weight", threshold_weight_);
  PullAnneal();
  if (!controller_) return;
  model::State own;
  controller_->AddState(&own);
  for (const model::StateScalar& scalar : own.scalars) {
    if (double* const* v = std::get_if<double*>(&scalar.value)) {
      **v = *HostScalar<double>(scalar.name);
    } else {
      *std::get<std::int64_t*>(scalar.value) = *HostScalar<std::int64_t>(scalar.name);
    }
  }
}

void DeviceEngine::PushScalars() {
  *HostScalar<std::int64_t>("step") = step_;
  *HostScalar<std::int64_t>("tokens") = tokens_;
  *HostScalar<std::int64_t>("last_active") = static_cast<std::int64_t>(last_.sums.entries);
  const auto push = [&](const char* name, double value) {
    if (double* to = HostScalar<double>(name)) *to = value;
  };
  push("batch_threshold", threshold_mean_);
  push("batch_threshold_weight", threshold_weight_);
  PushAnneal();
  if (parameters_->has_ema())
    push("ema_weight", 1 - std::pow(context_.config.train.ema, static_cast<double>(step_)));
  if (!controller_) return;
  model::State own;
  controller_->AddState(&own);
  for (const model::StateScalar& scalar : own.scalars) {
    if (double* const* v = std::get_if<double*>(&scalar.value)) {
      *HostScalar<double>(scalar.name) = **v;
    } else {
      *HostScalar<std::int64_t>(scalar.name) = *std::get<std::int64_t*>(scalar.value);
    }
  }
}

absl::Status DeviceEngine::UploadState() {
  SAE_RETURN_IF_ERROR(Settle());
  PullScalars();
  batch_.set_input_scale(input_scale_);
  DropGraph();
  last_tokens_ = 0;
  SAE_RETURN_IF_ERROR(RowsAreCurrent());
  if (columns_ != nullptr) {
    SAE_RETURN_IF_ERROR(columns_->SetNorms(runtime_, host_->column_norm2(), stream_));
  }
  return parameters_->Upload(host_->whole_state(), stream_);
}

absl::Status DeviceEngine::Initialise(std::span<const float> sample) {
  SAE_RETURN_IF_ERROR(host_->Initialise(sample));
  return UploadState();
}

absl::Status DeviceEngine::StateLoaded() {
  SAE_RETURN_IF_ERROR(host_->StateLoaded());
  return UploadState();
}

absl::Status DeviceEngine::DownloadState() {
  SAE_RETURN_IF_ERROR(Settle());
  SAE_RETURN_IF_ERROR(CatchUpRows());
  SAE_RETURN_IF_ERROR(parameters_->Download(host_->whole_state(), stream_));
  PushScalars();
  return absl::OkStatus();
}

model::State DeviceEngine::state() {
  if (input_scale_ > 0) state_status_ = DownloadState();
  return host_->state();
}

}  // namespace sae::train
