#include "sae/train/device/device_batch_topk.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::Status DeviceBatchTopK::Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                     std::int32_t* overflow) {
  runtime_ = &runtime;
  shape_ = shape;
  overflow_ = overflow;
  SAE_RETURN_IF_ERROR(slots_.Create(runtime, shape.tokens, shape.slot_capacity, overflow));
  SAE_RETURN_IF_ERROR(floor_.Create(runtime, 1, "floor"));
  SAE_RETURN_IF_ERROR(histogram_.Create(runtime, device::kRadixBins, "histogram"));
  SAE_RETURN_IF_ERROR(keys_.Create(runtime, shape_.ties, "tie keys"));
  if (ranks > 1) {
    SAE_RETURN_IF_ERROR(all_keys_.Create(runtime, ranks * shape_.ties, "all tie keys"));
  }
  return cut_.Create(runtime, 1, "cut");
}

absl::Status DeviceBatchTopK::FindCut(std::int64_t tokens, std::int64_t wanted,
                                      DeviceCollectives& collectives, void* stream) {
  SAE_RETURN_IF_ERROR(runtime_->MemsetAsync(cut_.data(), 0, cut_.bytes(), stream));
  for (int round = 0; round < 3; ++round) {
    SAE_RETURN_IF_ERROR(runtime_->MemsetAsync(histogram_.data(), 0, histogram_.bytes(), stream));
    if (tokens > 0) {
      device::RadixHistogramParams histogram{slots_.First(tokens), cut_.data(), histogram_.data()};
      SAE_RETURN_IF_ERROR(Launched(cuda::RadixHistogram(histogram, stream), "RadixHistogram"));
    }
    SAE_RETURN_IF_ERROR(collectives.Sum(histogram_.data(), device::kRadixBins));
    device::RadixPickParams pick{histogram_.data(), wanted, cut_.data()};
    SAE_RETURN_IF_ERROR(Launched(cuda::RadixPick(pick, stream), "RadixPick"));
  }
  return absl::OkStatus();
}

absl::Status DeviceBatchTopK::Select(cuda::DeviceLibrary* library,
                                     const device::EncodeParams& encode, std::int64_t all_tokens,
                                     DeviceCollectives& collectives, DeviceEntries* out,
                                     void* stream) {
  const std::int64_t tokens = encode.tokens, wanted = shape_.k * all_tokens;
  const std::int64_t first_token = all_tokens * shape_.replica / shape_.replicas;
  if (tokens > 0) {
    const device::LargestParams largest{wanted, slots_.First(tokens), cut_.data(),
                                        histogram_.data(), floor_.data()};
    const kernels::Error encoded =
        shape_.certified ? device::EncodeCertifiedLargest(library, encode, largest, nullptr, stream)
                         : device::EncodeLargest(library, encode, largest, stream);
    SAE_RETURN_IF_ERROR(Launched(encoded, "EncodeLargest"));
  }
  SAE_RETURN_IF_ERROR(FindCut(tokens, wanted, collectives, stream));
  device::TieKeysParams ties;
  ties.slots = slots_.First(tokens);
  ties.cut = cut_.data();
  ties.latents = shape_.latents;
  ties.global_ids = shape_.global_ids;
  ties.keys = keys_.data();
  ties.capacity = shape_.ties;
  ties.overflow = overflow_;
  ties.first_token = first_token;
  SAE_RETURN_IF_ERROR(Launched(cuda::TieKeys(ties, stream), "TieKeys"));
  std::int64_t* all = collectives.size() == 1 ? keys_.data() : all_keys_.data();
  SAE_RETURN_IF_ERROR(collectives.Gather(keys_.data(), shape_.ties, all));
  device::TieCutParams settle{all, collectives.size(), shape_.ties, cut_.data()};
  SAE_RETURN_IF_ERROR(Launched(cuda::TieCut(settle, stream), "TieCut"));
  if (tokens == 0) return absl::OkStatus();
  device::KeepFromCutParams keep;
  keep.slots = slots_.First(tokens);
  keep.cut = cut_.data();
  keep.latents = shape_.latents;
  keep.global_ids = shape_.global_ids;
  keep.first_token = first_token;
  SAE_RETURN_IF_ERROR(Launched(cuda::KeepFromCut(keep, stream), "KeepFromCut"));
  return out->FromSlots(slots_.First(tokens), stream);
}

}  // namespace sae::train
