#include "sae/train/device/device_parameters.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

#include "sae/kernels/split_float.h"

namespace sae::train {
namespace {

using model::StateTensor;

constexpr const char* kM = ".adam_m";
constexpr const char* kV = ".adam_v";
constexpr const char* kMScales = ".adam_m_scale";
constexpr const char* kVScales = ".adam_v_scale";
constexpr const char* kEma = ".ema";

const StateTensor* FindTensor(const model::State& state, const std::string& name) {
  const auto it = std::find_if(state.tensors.begin(), state.tensors.end(),
                               [&](const StateTensor& t) { return t.name == name; });
  return it == state.tensors.end() ? nullptr : &*it;
}

std::int64_t Elements(const StateTensor& t) {
  std::int64_t count = 1;
  for (const std::int64_t size : t.shape) count *= size;
  return count;
}

std::int64_t Bytes(const StateTensor& t) { return Elements(t) * SizeOf(t.dtype); }

absl::StatusOr<const StateTensor*> Need(const model::State& state, const std::string& name) {
  const StateTensor* tensor = FindTensor(state, name);
  if (tensor != nullptr) return tensor;
  return absl::NotFoundError(absl::StrCat("device parameters: the state has no tensor ", name));
}

absl::Status CreateMatrix(DeviceRuntime& runtime, const model::State& state,
                          const std::string& name, DeviceMatrix* out) {
  SAE_ASSIGN_OR_RETURN(const StateTensor* w, Need(state, name));
  SAE_ASSIGN_OR_RETURN(const StateTensor* m, Need(state, name + kM));
  out->name = name;
  out->rows = w->shape[0];
  out->d = w->shape[1];
  SAE_RETURN_IF_ERROR(out->hi.Create(runtime, out->rows * out->d, "weights: high halves"));
  SAE_RETURN_IF_ERROR(out->lo.Create(runtime, out->rows * out->d, "weights: low halves"));
  using kernels::device::MomentFormat;
  out->format = m->dtype == DType::kBf16  ? MomentFormat::kBf16
                : m->dtype == DType::kF32 ? MomentFormat::kF32
                                          : MomentFormat::kInt8;
  SAE_RETURN_IF_ERROR(out->m.Create(runtime, Bytes(*m), "first moments"));
  SAE_RETURN_IF_ERROR(out->v.Create(runtime, Bytes(*m), "second moments"));
  if (out->format == MomentFormat::kInt8) {
    SAE_ASSIGN_OR_RETURN(const StateTensor* scales, Need(state, name + kMScales));
    SAE_RETURN_IF_ERROR(out->m_scales.Create(runtime, Elements(*scales), "scales of moments"));
    SAE_RETURN_IF_ERROR(out->v_scales.Create(runtime, Elements(*scales), "scales of moments"));
  }
  if (FindTensor(state, name + kEma) != nullptr) {
    SAE_RETURN_IF_ERROR(out->ema.Create(runtime, out->rows * out->d, "mean weights"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceParameters>> DeviceParameters::Create(
    DeviceRuntime& runtime, const model::State& state) {
  std::unique_ptr<DeviceParameters> out(new DeviceParameters(runtime));
  SAE_RETURN_IF_ERROR(CreateMatrix(runtime, state, "W_enc", &out->w_enc_));
  SAE_RETURN_IF_ERROR(CreateMatrix(runtime, state, "W_dec", &out->w_dec_));
  for (const char* name :
       {"b_enc", "b_dec", "b_mag", "r_mag", "threshold", "log_threshold", "W_skip"}) {
    const StateTensor* tensor = FindTensor(state, name);
    if (tensor == nullptr) continue;
    DeviceVector& vector = out->vectors_.emplace_back();
    vector.name = name;
    SAE_ASSIGN_OR_RETURN(const StateTensor* m, Need(state, vector.name + kM));
    SAE_RETURN_IF_ERROR(vector.p.Create(runtime, Elements(*tensor), name));
    for (DeviceBuffer<float>* buffer : {&vector.m, &vector.v}) {
      SAE_RETURN_IF_ERROR(buffer->Create(runtime, Elements(*m), name));
    }
    if (FindTensor(state, vector.name + kEma) != nullptr) {
      SAE_RETURN_IF_ERROR(vector.ema.Create(runtime, Elements(*tensor), name));
    }
  }
  SAE_RETURN_IF_ERROR(out->since_fired_.Create(runtime, state.shard.count, "tokens since fired"));
  return out;
}

DeviceVector* DeviceParameters::Find(const std::string& name) {
  for (DeviceVector& vector : vectors_) {
    if (vector.name == name || vector.name == "log_" + name) return &vector;
  }
  return nullptr;
}

absl::Status DeviceParameters::Copy(const StateTensor& tensor, void* device, std::int64_t bytes,
                                    Way way, void* stream) {
  if (Bytes(tensor) != bytes) {
    return absl::InternalError(absl::StrCat("device parameters: ", tensor.name, " has ",
                                            Bytes(tensor), " bytes, not ", bytes));
  }
  if (bytes == 0) return absl::OkStatus();
  return way == Way::kUpload ? runtime_.CopyAsync(device, tensor.data, bytes, stream)
                             : runtime_.CopyAsync(tensor.data, device, bytes, stream);
}

// Some rows at a time, so that the halves take little memory on the host.
absl::Status DeviceParameters::TransferWeights(const StateTensor& tensor, DeviceMatrix* matrix,
                                               Way way, void* stream) {
  constexpr std::int64_t kPart = std::int64_t{1} << 20;
  const std::int64_t total = matrix->rows * matrix->d;
  auto* values = static_cast<float*>(tensor.data);
  std::vector<std::uint16_t> hi(static_cast<std::size_t>(std::min(kPart, total)));
  std::vector<std::int16_t> lo(hi.size());
  for (std::int64_t first = 0; first < total; first += kPart) {
    const std::int64_t count = std::min(kPart, total - first);
    if (way == Way::kUpload) {
      for (std::int64_t i = 0; i < count; ++i) {
        const kernels::SplitFloat split = kernels::Split(values[first + i]);
        hi[static_cast<std::size_t>(i)] = split.hi;
        lo[static_cast<std::size_t>(i)] = split.lo;
      }
      SAE_RETURN_IF_ERROR(
          runtime_.CopyAsync(matrix->hi.data() + first, hi.data(), 2 * count, stream));
      SAE_RETURN_IF_ERROR(
          runtime_.CopyAsync(matrix->lo.data() + first, lo.data(), 2 * count, stream));
      SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream));
      continue;
    }
    SAE_RETURN_IF_ERROR(
        runtime_.CopyAsync(hi.data(), matrix->hi.data() + first, 2 * count, stream));
    SAE_RETURN_IF_ERROR(
        runtime_.CopyAsync(lo.data(), matrix->lo.data() + first, 2 * count, stream));
    SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream));
    for (std::int64_t i = 0; i < count; ++i)
      values[first + i] =
          kernels::Join(hi[static_cast<std::size_t>(i)], lo[static_cast<std::size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::Status DeviceParameters::Transfer(const model::State& state, Way way, void* stream) {
  for (DeviceMatrix* matrix : {&w_enc_, &w_dec_}) {
    SAE_ASSIGN_OR_RETURN(const StateTensor* w, Need(state, matrix->name));
    SAE_RETURN_IF_ERROR(TransferWeights(*w, matrix, way, stream));
    SAE_ASSIGN_OR_RETURN(const StateTensor* m, Need(state, matrix->name + kM));
    SAE_RETURN_IF_ERROR(Copy(*m, matrix->m.data(), matrix->m.bytes(), way, stream));
    SAE_ASSIGN_OR_RETURN(const StateTensor* v, Need(state, matrix->name + kV));
    SAE_RETURN_IF_ERROR(Copy(*v, matrix->v.data(), matrix->v.bytes(), way, stream));
    if (matrix->format == kernels::device::MomentFormat::kInt8) {
      SAE_ASSIGN_OR_RETURN(const StateTensor* ms, Need(state, matrix->name + kMScales));
      SAE_RETURN_IF_ERROR(
          Copy(*ms, matrix->m_scales.data(), matrix->m_scales.bytes(), way, stream));
      SAE_ASSIGN_OR_RETURN(const StateTensor* vs, Need(state, matrix->name + kVScales));
      SAE_RETURN_IF_ERROR(
          Copy(*vs, matrix->v_scales.data(), matrix->v_scales.bytes(), way, stream));
    }
    if (matrix->ema.count() == 0) continue;
    SAE_ASSIGN_OR_RETURN(const StateTensor* ema, Need(state, matrix->name + kEma));
    SAE_RETURN_IF_ERROR(Copy(*ema, matrix->ema.data(), matrix->ema.bytes(), way, stream));
  }
  for (DeviceVector& vector : vectors_) {
    const std::array<std::pair<const char*, DeviceBuffer<float>*>, 4> parts = {
        {{"", &vector.p}, {kM, &vector.m}, {kV, &vector.v}, {kEma, &vector.ema}}};
    for (const auto& [suffix, buffer] : parts) {
      if (buffer->count() == 0) continue;
      SAE_ASSIGN_OR_RETURN(const StateTensor* tensor, Need(state, vector.name + suffix));
      SAE_RETURN_IF_ERROR(Copy(*tensor, buffer->data(), buffer->bytes(), way, stream));
    }
  }
  SAE_ASSIGN_OR_RETURN(const StateTensor* since, Need(state, "tokens_since_fired"));
  SAE_RETURN_IF_ERROR(Copy(*since, since_fired_.data(), since_fired_.bytes(), way, stream));
  return runtime_.Synchronize(stream);
}

absl::Status DeviceParameters::Upload(const model::State& state, void* stream) {
  return Transfer(state, Way::kUpload, stream);
}

absl::Status DeviceParameters::Download(const model::State& state, void* stream) {
  return Transfer(state, Way::kDownload, stream);
}

}  // namespace sae::train
