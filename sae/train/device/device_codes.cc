#include "sae/train/device/device_codes.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::Status DeviceEntries::Create(DeviceRuntime& runtime, std::int64_t tokens,
                                   std::int64_t capacity, std::int64_t latents, bool weighted) {
  tokens_ = tokens;
  capacity_ = capacity;
  latents_ = latents;
  SAE_RETURN_IF_ERROR(indptr_.Create(runtime, tokens + 1, "codes: indptr"));
  SAE_RETURN_IF_ERROR(ids_.Create(runtime, capacity, "codes: ids"));
  SAE_RETURN_IF_ERROR(rows_.Create(runtime, capacity, "codes: rows"));
  SAE_RETURN_IF_ERROR(latent_indptr_.Create(runtime, latents + 1, "index: indptr"));
  SAE_RETURN_IF_ERROR(positions_.Create(runtime, capacity, "index: entries"));
  SAE_RETURN_IF_ERROR(scan_.Create(runtime, device::SlotsToCodesScratch(tokens), "codes: scan"));
  SAE_RETURN_IF_ERROR(values_.Create(runtime, capacity, "codes: values"));
  SAE_RETURN_IF_ERROR(u_.Create(runtime, capacity, "codes: u"));
  SAE_RETURN_IF_ERROR(delta_.Create(runtime, capacity, "codes: delta"));
  if (weighted) {
    SAE_RETURN_IF_ERROR(weights_.Create(runtime, capacity, "codes: weights"));
  }
  return sort_.Create(runtime, device::BuildIndexScratchBytes(capacity, latents), "index: sort");
}

absl::Status DeviceEntries::FromSlots(const device::Slots& slots, void* stream) {
  tokens_ = slots.tokens;
  device::SlotsToCodesParams params;
  params.slots = slots;
  params.out = codes();
  params.scratch = scan_.data();
  return Launched(cuda::SlotsToCodes(params, stream), "SlotsToCodes");
}

absl::Status DeviceEntries::BuildIndex(void* stream) {
  device::BuildIndexParams params;
  params.codes = codes();
  params.out = index();
  params.scratch = sort_.data();
  params.scratch_bytes = sort_.count();
  return Launched(cuda::BuildIndex(params, stream), "BuildIndex");
}

absl::Status DeviceSlots::Create(DeviceRuntime& runtime, std::int64_t tokens, std::int64_t capacity,
                                 std::int32_t* overflow) {
  SAE_RETURN_IF_ERROR(values_.Create(runtime, tokens * capacity, "slots: values"));
  SAE_RETURN_IF_ERROR(ids_.Create(runtime, tokens * capacity, "slots: ids"));
  SAE_RETURN_IF_ERROR(counts_.Create(runtime, tokens, "slots: counts"));
  view_ = {values_.data(), ids_.data(), counts_.data(), tokens, capacity, overflow};
  return absl::OkStatus();
}

}  // namespace sae::train
