// Rows to the device, encoder, codes and reconstruction.
#include <algorithm>

#include "sae/kernels/device/prepare.h"
#include "sae/train/device/device_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

// On its way while the device may still work on the batch before.
absl::Status DeviceEngine::Stage(std::span<const float> rows) {
  batch_.Load(rows, /*keep=*/false);
  batch_.set_input_scale(input_scale_);
  return inbox_.Stage(batch_.x(), batch_.y(), batch_.tokens(), context_.pool);
}

// To where kernels read it.
absl::Status DeviceEngine::Take() {
  SAE_RETURN_IF_ERROR(inbox_.Take(x_.data(), y_.data(), stream_));
  if (x_bf16_.count() == 0) return absl::OkStatus();
  device::ToBf16Params convert{x_.data(), x_bf16_.data(), batch_.tokens() * context_.d};
  return Launched(cuda::ToBf16(convert, stream_), "ToBf16");
}

absl::Status DeviceEngine::WriteScalars() {
  return runtime_.CopyAsync(scalars_.data(), pinned_, sizeof(DeviceScalars), stream_);
}

// To be seen after a Wait.
absl::Status DeviceEngine::ReadScalars() {
  return runtime_.CopyAsync(pinned_, scalars_.data(), sizeof(DeviceScalars), stream_);
}

device::LatentRule DeviceEngine::rule() const {
  switch (context_.options.architecture) {
    case model::Architecture::kReluL1:
      return device::LatentRule::kRelu;
    case model::Architecture::kJumpRelu:
      return device::LatentRule::kJumpRelu;
    case model::Architecture::kGated:
      return device::LatentRule::kGated;
    default:
      return device::LatentRule::kPassThrough;
  }
}

bool DeviceEngine::weighted() const {
  return rule() == device::LatentRule::kJumpRelu || rule() == device::LatentRule::kGated;
}

// Products and gathers of bf16 halves, or of whole float32 values.
device::WeightRows DeviceEngine::EncoderRows() const {
  device::WeightRows rows = parameters_->w_enc().weights();
  if (bf16()) rows.lo = nullptr;
  return rows;
}

device::WeightRows DeviceEngine::DecoderRows() const {
  device::WeightRows rows = parameters_->w_dec().weights();
  if (bf16()) rows.lo = nullptr;
  return rows;
}

device::EncodeParams DeviceEngine::EncodeInput() {
  device::EncodeParams in;
  in.w = EncoderRows();
  in.c = c_.data();
  in.latents = context_.shard.count;
  in.d = context_.d;
  in.x = x_.data();
  if (context_.options.certified || bf16()) in.x_bf16 = x_bf16_.data();
  in.tokens = batch_.tokens();
  in.scale = batch_.scale();
  in.exact = !bf16() && !context_.options.certified;
  in.finite = &at()->finite;
  in.scratch = encode_scratch_.data();
  FixShape(&in);
  return in;
}

// What depends on the weights alone: biases of pre-activations, norms.
absl::Status DeviceEngine::PrepareWeights() {
  device::FoldBiasParams fold;
  fold.w = EncoderRows();
  const bool gated = rule() == device::LatentRule::kGated;
  fold.b_enc = gated ? nullptr : parameters_->Find("b_enc")->p.data();
  fold.b_dec = context_.options.pre_bias ? parameters_->Find("b_dec")->p.data() : nullptr;
  fold.c = c_.data();
  fold.latents = context_.shard.count;
  fold.d = context_.d;
  SAE_RETURN_IF_ERROR(Launched(cuda::FoldBias(fold, stream_), "FoldBias"));
  if (norms_.count() == 0 && row_scale_.count() == 0) return absl::OkStatus();
  if (columns_ != nullptr)
    return columns_->Norms(global_ids_.data(), context_.shard.count, norms_.data(), stream_);
  device::RowNormsParams norms;
  norms.w = DecoderRows();
  norms.rows = context_.shard.count;
  norms.d = context_.d_out;
  norms.norms = norms_.data();
  norms.row_scale = row_scale_.data();
  return Launched(cuda::RowNorms(norms, stream_), "RowNorms");
}

absl::Status DeviceEngine::EncodeAbove(const float* lower, DeviceEntries* out) {
  const device::Slots slots = slots_.First(batch_.tokens());
  const kernels::Error encoded =
      context_.options.certified
          ? device::EncodeCertifiedAbove(library_, EncodeInput(), lower, slots, nullptr, stream_)
          : device::EncodeAbove(library_, EncodeInput(), lower, slots, stream_);
  SAE_RETURN_IF_ERROR(Launched(encoded, "EncodeAbove"));
  return out->FromSlots(slots, stream_);
}

// After training BatchTopK's codes are those above its threshold.
absl::Status DeviceEngine::EncodeAboveThreshold(DeviceEntries* out) {
  const std::vector<float> theta(static_cast<std::size_t>(context_.shard.count),
                                 static_cast<float>(threshold_mean_ / threshold_weight_));
  SAE_RETURN_IF_ERROR(runtime_.CopyAsync(lower_.data(), theta.data(), lower_.bytes(), stream_));
  SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream_));
  return EncodeAbove(lower_.data(), out);
}

absl::Status DeviceEngine::Encode(bool training, DeviceEntries* out) {
  if (varies()) {
    const bool constants = weighted();
    if (constants) {
      device::LatentConstantsParams latent;
      latent.rule = rule();
      latent.latents = context_.shard.count;
      if (DeviceVector* threshold = parameters_->Find("threshold")) {
        latent.threshold = threshold->p.data();
        latent.half = training ? static_cast<float>(bandwidth_ / 2) : 0.0F;
      }
      latent.log_threshold = context_.options.threshold == model::ThresholdParameter::kLog;
      if (DeviceVector* r_mag = parameters_->Find("r_mag")) {
        latent.r_mag = r_mag->p.data();
        latent.b_gate = parameters_->Find("b_enc")->p.data();
      }
      latent.theta = theta_.data();
      latent.lower = lower_.data();
      latent.scale = scale_.data();
      SAE_RETURN_IF_ERROR(Launched(cuda::LatentConstants(latent, stream_), "LatentConstants"));
    }
    SAE_RETURN_IF_ERROR(EncodeAbove(constants ? lower_.data() : nullptr, out));
    if (!constants) return absl::OkStatus();
    device::CodeWeightsParams weights;
    weights.rule = rule();
    weights.codes = out->codes();
    weights.theta = theta_.data();
    weights.scale = scale_.data();
    if (rule() == device::LatentRule::kGated) {
      weights.b_gate = parameters_->Find("b_enc")->p.data();
      weights.b_mag = parameters_->Find("b_mag")->p.data();
      weights.gate = gate_.data();
    }
    weights.f = out->weights();
    return Launched(cuda::CodeWeights(weights, stream_), "CodeWeights");
  }
  if (context_.options.architecture == model::Architecture::kTopK) {
    DeviceEntries* first = multi() ? &wide_entries_ : out;
    SAE_RETURN_IF_ERROR(topk_.Select(library_, EncodeInput(), *collectives_, first, stream_));
    return multi() ? topk_.Narrow(*collectives_, out, stream_) : absl::OkStatus();
  }
  if (!training && threshold_weight_ > 0) return EncodeAboveThreshold(out);
  const std::int64_t all = training ? context_.config.train.batch : evaluation_tokens_;
  return batch_topk_.Select(library_, EncodeInput(), all, *world_, out, stream_);
}

// What the host wants to know of the codes.
absl::Status DeviceEngine::CopyCounts() {
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(&at()->entries, entries_.count(), sizeof(std::int32_t), stream_));
  if (batch_topk_.cut() == nullptr) return absl::OkStatus();
  device::SmallestKeptParams smallest{entries_.codes(), batch_topk_.cut(), &at()->smallest};
  SAE_RETURN_IF_ERROR(Launched(cuda::SmallestKept(smallest, stream_), "SmallestKept"));
  return world_->Min(&at()->smallest, 1);
}

// Local ids rise with global ones, so a prefix of the dictionary is one of the shard.
device::Groups DeviceEngine::GroupsOf() const {
  device::Groups groups;
  const model::Options& options = context_.options;
  groups.count = static_cast<int>(options.prefixes.size());
  std::int64_t local = 0;
  for (std::size_t g = 0; g < options.prefixes.size(); ++g) {
    while (local < context_.shard.count && context_.shard.Global(local) < options.prefixes[g])
      ++local;
    groups.last[g] = static_cast<std::int32_t>(local);
    groups.weight[g] = options.prefix_weights[g];
  }
  return groups;
}

device::Groups DeviceEngine::OneGroup() const {
  device::Groups groups;
  groups.last[0] = static_cast<std::int32_t>(context_.shard.count);
  return groups;
}

// `bias`: with b_dec, on the first rank, so that a sum over ranks has it once (a fixed reduction
// adds it to the sum), and with the skip.
absl::Status DeviceEngine::Decode(const DeviceEntries& entries, const float* f, bool bias,
                                  float* parts, const device::Groups& groups) {
  device::DecodeParams decode;
  decode.codes = entries.codes();
  decode.f = f;
  decode.w = DecoderRows();
  decode.row_scale = row_scale_.data();
  const bool sums_once = reconstructor_.on() || context_.communicator.rank() == 0;
  if (bias && sums_once) decode.bias = parameters_->Find("b_dec")->p.data();
  decode.groups = groups;
  decode.parts = parts;
  decode.d = context_.d_out;
  if (reconstructor_.on()) {
    SAE_RETURN_IF_ERROR(reconstructor_.Run(decode));
  } else {
    SAE_RETURN_IF_ERROR(Launched(cuda::Decode(decode, stream_), "Decode"));
    SAE_RETURN_IF_ERROR(collectives_->Sum(parts, groups.count * batch_.tokens() * context_.d_out));
  }
  return bias && context_.options.skip ? AddSkip(parts) : absl::OkStatus();
}

}  // namespace sae::train
