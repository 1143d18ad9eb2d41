#include "sae/train/device/device_topk.h"

#include <algorithm>

#include "sae/kernels/shard_topk.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::Status DeviceTopK::Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                std::int32_t* overflow, std::int64_t unsafe) {
  shape_ = shape;
  overflow_ = overflow;
  const std::int64_t tokens = shape.tokens;
  const std::int64_t state = tokens * shape.k;
  SAE_RETURN_IF_ERROR(values_.Create(runtime, state, "top-k values"));
  SAE_RETURN_IF_ERROR(ids_.Create(runtime, state, "top-k ids"));
  SAE_RETURN_IF_ERROR(counts_.Create(runtime, tokens, "top-k counts"));
  SAE_RETURN_IF_ERROR(slots_.Create(runtime, tokens, shape.k, overflow));
  if (ranks == 1) return absl::OkStatus();
  width_ = kernels::ShardCapacity(shape.k, ranks);
  unsafe_capacity_ =
      std::min(tokens, unsafe > 0 ? unsafe : std::max<std::int64_t>(8, tokens / 256));
  const std::int64_t second = unsafe_capacity_ * shape.k;
  SAE_RETURN_IF_ERROR(offered_.Create(runtime, tokens * width_, "offers"));
  SAE_RETURN_IF_ERROR(all_offered_.Create(runtime, ranks * tokens * width_, "all offers"));
  SAE_RETURN_IF_ERROR(cut_values_.Create(runtime, tokens, "cut values"));
  SAE_RETURN_IF_ERROR(cut_ids_.Create(runtime, tokens, "cut ids"));
  SAE_RETURN_IF_ERROR(unsafe_.Create(runtime, unsafe_capacity_, "unsafe tokens"));
  SAE_RETURN_IF_ERROR(unsafe_count_.Create(runtime, 1, "unsafe count"));
  SAE_RETURN_IF_ERROR(second_values_.Create(runtime, second, "second values"));
  SAE_RETURN_IF_ERROR(second_ids_.Create(runtime, second, "second ids"));
  SAE_RETURN_IF_ERROR(all_second_values_.Create(runtime, ranks * second, "all second values"));
  return all_second_ids_.Create(runtime, ranks * second, "all second ids");
}

absl::Status DeviceTopK::GlobalCut(std::int64_t tokens, DeviceCollectives& collectives,
                                   void* stream) {
  device::OfferParams offer{values_.data(), ids_.data(), counts_.data(), tokens,
                            shape_.k,       width_,      true,           offered_.data()};
  SAE_RETURN_IF_ERROR(Launched(cuda::Offer(offer, stream), "Offer"));
  SAE_RETURN_IF_ERROR(collectives.Gather(offered_.data(), tokens * width_, all_offered_.data()));
  device::GlobalCutParams cut;
  cut.offered = all_offered_.data();
  cut.ranks = collectives.size();
  cut.tokens = tokens;
  cut.width = width_;
  cut.k = shape_.k;
  cut.cut_values = cut_values_.data();
  cut.cut_ids = cut_ids_.data();
  cut.unsafe = unsafe_.data();
  cut.unsafe_count = unsafe_count_.data();
  cut.capacity = unsafe_capacity_;
  cut.overflow = overflow_;
  SAE_RETURN_IF_ERROR(Launched(cuda::GlobalCut(cut, stream), "GlobalCut"));
  device::SecondOfferParams second;
  second.values = values_.data();
  second.ids = ids_.data();
  second.counts = counts_.data();
  second.k = shape_.k;
  second.unsafe = unsafe_.data();
  second.unsafe_count = unsafe_count_.data();
  second.capacity = unsafe_capacity_;
  second.global_ids = shape_.global_ids;
  second.out_values = second_values_.data();
  second.out_ids = second_ids_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::SecondOffer(second, stream), "SecondOffer"));
  const std::int64_t size = unsafe_capacity_ * shape_.k;
  SAE_RETURN_IF_ERROR(collectives.Gather(second_values_.data(), size, all_second_values_.data()));
  SAE_RETURN_IF_ERROR(collectives.Gather(second_ids_.data(), size, all_second_ids_.data()));
  device::SecondCutParams last;
  last.values = all_second_values_.data();
  last.ids = all_second_ids_.data();
  last.ranks = collectives.size();
  last.capacity = unsafe_capacity_;
  last.k = shape_.k;
  last.unsafe = unsafe_.data();
  last.unsafe_count = unsafe_count_.data();
  last.cut_values = cut_values_.data();
  last.cut_ids = cut_ids_.data();
  return Launched(cuda::SecondCut(last, stream), "SecondCut");
}

absl::Status DeviceTopK::Select(cuda::DeviceLibrary* library, const device::EncodeParams& encode,
                                DeviceCollectives& collectives, DeviceEntries* out, void* stream) {
  const std::int64_t tokens = encode.tokens;
  const device::TopKState state{shape_.k, values_.data(), ids_.data(), counts_.data()};
  const kernels::Error encoded =
      shape_.certified ? device::EncodeCertifiedTopK(library, encode, state, nullptr, stream)
                       : device::EncodeTopK(library, encode, state, stream);
  SAE_RETURN_IF_ERROR(Launched(encoded, "EncodeTopK"));
  device::WinnersParams winners;
  winners.values = values_.data();
  winners.ids = ids_.data();
  winners.counts = counts_.data();
  winners.k = shape_.k;
  winners.global_ids = shape_.global_ids;
  winners.out = slots_.First(tokens);
  if (collectives.size() > 1) {
    SAE_RETURN_IF_ERROR(GlobalCut(tokens, collectives, stream));
    winners.cut_values = cut_values_.data();
    winners.cut_ids = cut_ids_.data();
  }
  SAE_RETURN_IF_ERROR(Launched(cuda::Winners(winners, stream), "Winners"));
  return out->FromSlots(winners.out, stream);
}

}  // namespace sae::train
