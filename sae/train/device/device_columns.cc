#include "sae/train/device/device_columns.h"

#include <algorithm>

#include "sae/kernels/device/vectors.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::StatusOr<std::unique_ptr<DeviceColumns>> DeviceColumns::Create(
    DeviceRuntime& runtime, const Shape& shape, std::span<const std::int32_t> where, void* stream) {
  std::unique_ptr<DeviceColumns> out(new DeviceColumns(shape));
  SAE_RETURN_IF_ERROR(out->Allocate(runtime, where, stream));
  return out;
}

absl::Status DeviceColumns::Allocate(DeviceRuntime& runtime, std::span<const std::int32_t> where,
                                     void* stream) {
  const std::int64_t n = shape_.latents;
  SAE_RETURN_IF_ERROR(targets_.Create(runtime, own_ * shape_.tokens * width_, "own targets"));
  SAE_RETURN_IF_ERROR(sums_.Create(runtime, device::kColumnBlocks, "sums of blocks"));
  SAE_RETURN_IF_ERROR(eighth_.Create(runtime, 1, "eighth"));
  SAE_RETURN_IF_ERROR(scratch_.Create(runtime, 1024, "sum scratch"));
  SAE_RETURN_IF_ERROR(along_.Create(runtime, n, "along rows"));
  SAE_RETURN_IF_ERROR(norm2_.Create(runtime, n, "squared norms"));
  if (measures()) {
    SAE_RETURN_IF_ERROR(norm_parts_.Create(runtime, own_ * n, "parts of norms"));
    SAE_RETURN_IF_ERROR(received_parts_.Create(runtime, shape_.ranks > 1 ? own_ * n : 0,
                                               "received parts of norms"));
    SAE_RETURN_IF_ERROR(norm_sums_.Create(runtime, n, "sums of norms"));
  }
  if (shape_.norm_gradient) {
    SAE_RETURN_IF_ERROR(norm_gradients_.Create(runtime, n, "norm gradients"));
    SAE_RETURN_IF_ERROR(where_.Create(runtime, n, "places of latents"));
    SAE_RETURN_IF_ERROR(runtime.CopyAsync(where_.data(), where.data(), where_.bytes(), stream));
  }
  constexpr double kEighth = 1.0 / device::kColumnBlocks;
  SAE_RETURN_IF_ERROR(runtime.CopyAsync(eighth_.data(), &kEighth, sizeof kEighth, stream));
  SAE_RETURN_IF_ERROR(runtime.MemsetAsync(along_.data(), 0, along_.bytes(), stream));
  return runtime.Synchronize(stream);
}

absl::Status DeviceColumns::LoadTargets(const float* target, std::int64_t tokens, void* stream) {
  tokens_ = tokens;
  device::SplitColumnsParams split{target,  tokens, shape_.d_out,   first(),
                                   width(), own(),  targets_.data()};
  return Launched(cuda::SplitColumns(split, stream), "SplitColumns");
}

absl::Status DeviceColumns::SumBlocks(double* out, bool mean, bool add,
                                      DeviceCollectives& collectives, void* stream) {
  if (shape_.ranks > 1) {
    SAE_RETURN_IF_ERROR(collectives.ShareParts(sums_.data(), sums_.bytes()));
  }
  device::SumParams total;
  total.values = sums_.data();
  total.count = sums_.count();
  total.factor = mean ? eighth_.data() : nullptr;
  total.add = add;
  total.scratch = scratch_.data();
  total.out = out;
  return Launched(cuda::Sum(total, stream), "Sum");
}

absl::Status DeviceColumns::SetNorms(DeviceRuntime& runtime, const std::vector<double>& norm2,
                                     void* stream) {
  SAE_RETURN_IF_ERROR(runtime.CopyAsync(norm2_.data(), norm2.data(), norm2_.bytes(), stream));
  return runtime.Synchronize(stream);
}

absl::Status DeviceColumns::Norms(const std::int32_t* global_ids, std::int64_t count, float* norms,
                                  void* stream) {
  const device::ShardNormsParams params{norm2_.data(), global_ids, count, norms};
  return Launched(cuda::ShardNorms(params, stream), "ShardNorms");
}

absl::Status DeviceColumns::PrepareRows(std::span<const device::AlongTerm> terms,
                                        const float* norm_gradient, DeviceCollectives& collectives,
                                        void* stream) {
  if (!measures()) return absl::OkStatus();  // free rows: nothing is added
  device::AlongParams along;
  along.latents = shape_.latents;
  along.unit = shape_.unit;
  if (shape_.unit) {
    along.terms_count = static_cast<int>(terms.size());
    std::copy(terms.begin(), terms.end(), along.terms);
  } else {
    SAE_RETURN_IF_ERROR(collectives.Gather(norm_gradient, share(), norm_gradients_.data()));
    along.norm_gradient = norm_gradients_.data();
    along.where = where_.data();
  }
  along.norm2 = norm2_.data();
  along.along = along_.data();
  return Launched(cuda::Along(along, stream), "Along");
}

void DeviceColumns::SetRows(std::int64_t block, device::RowUpdateParams* params) const {
  params->columns.along = along_.data();
  params->norm_gradient = norm_gradients_.data();
  if (!measures()) return;
  // As FinishRows sends them: by the rank that adds them, then by block.
  params->columns.norm2 = norm_parts_.data() + block * share();
  params->columns.chunk = share();
  params->columns.stride = own_ * share();
}

absl::Status DeviceColumns::FinishRows(const device::MutableWeightRows& w, const std::int32_t* go,
                                       DeviceCollectives& collectives, void* stream) {
  if (!measures()) return absl::OkStatus();
  const float* parts = norm_parts_.data();
  if (shape_.ranks > 1) {
    parts = received_parts_.data();
    SAE_RETURN_IF_ERROR(
        collectives.Exchange(norm_parts_.data(), received_parts_.data(), own_ * share()));
  }
  const device::SumNormPartsParams sum{parts, share(), norm_sums_.data() + shape_.rank * share()};
  SAE_RETURN_IF_ERROR(Launched(cuda::SumNormParts(sum, stream), "SumNormParts"));
  if (shape_.ranks > 1) {
    SAE_RETURN_IF_ERROR(collectives.ShareParts(norm_sums_.data(), norm_sums_.bytes()));
  }
  device::FinishColumnsParams finish;
  finish.w = w;
  finish.blocks = own_;
  finish.latents = shape_.latents;
  finish.width = width_;
  finish.unit = shape_.unit;
  finish.sums = norm_sums_.data();
  finish.norm2 = norm2_.data();
  finish.go = go;
  return Launched(cuda::FinishColumns(finish, stream), "FinishColumns");
}

}  // namespace sae::train
