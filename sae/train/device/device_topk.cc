#include "sae/train/device/device_topk.h"

#include <algorithm>

#include "sae/kernels/shard_topk.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

namespace {

// Of one rank what all ranks have is its own.
template <class V>
V* All(const DeviceBuffer<V>& all, const DeviceBuffer<V>& own) {
  return all.count() > 0 ? all.data() : own.data();
}

}  // namespace

absl::Status DeviceTopK::CreateCut(DeviceRuntime& runtime, std::int64_t k, bool all, Cut* cut) {
  const std::int64_t tokens = shape_.tokens;
  cut->k = k;
  SAE_RETURN_IF_ERROR(cut->slots.Create(runtime, tokens, k, overflow_));
  if (all) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(cut->values.Create(runtime, tokens, "cut values"));
  SAE_RETURN_IF_ERROR(cut->ids.Create(runtime, tokens, "cut ids"));
  SAE_RETURN_IF_ERROR(cut->unsafe.Create(runtime, unsafe_capacity_, "unsafe tokens"));
  return cut->unsafe_count.Create(runtime, 1, "unsafe count");
}

absl::Status DeviceTopK::Create(DeviceRuntime& runtime, const Shape& shape, int ranks,
                                std::int32_t* overflow, std::int64_t unsafe) {
  shape_ = shape;
  overflow_ = overflow;
  const std::int64_t tokens = shape.tokens;
  const std::int64_t state = tokens * shape.k;
  SAE_RETURN_IF_ERROR(values_.Create(runtime, state, "top-k values"));
  SAE_RETURN_IF_ERROR(ids_.Create(runtime, state, "top-k ids"));
  SAE_RETURN_IF_ERROR(counts_.Create(runtime, tokens, "top-k counts"));
  unsafe_capacity_ =
      std::min(tokens, unsafe > 0 ? unsafe : std::max<std::int64_t>(8, tokens / 256));
  SAE_RETURN_IF_ERROR(CreateCut(runtime, shape.k, ranks == 1, &cut_));
  if (shape.narrow > 0) {
    SAE_RETURN_IF_ERROR(CreateCut(runtime, shape.narrow, false, &narrow_));
  }
  if (ranks == 1 && shape.narrow == 0) return absl::OkStatus();
  // One rank's offer shows the entry behind the last that stays: only ties are left open.
  width_ = ranks > 1 ? kernels::ShardCapacity(shape.k, ranks) : shape.narrow + 1;
  const std::int64_t second = unsafe_capacity_ * shape.k;
  SAE_RETURN_IF_ERROR(offered_.Create(runtime, tokens * width_, "offers"));
  SAE_RETURN_IF_ERROR(second_values_.Create(runtime, second, "second values"));
  SAE_RETURN_IF_ERROR(second_ids_.Create(runtime, second, "second ids"));
  if (ranks == 1) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(all_offered_.Create(runtime, ranks * tokens * width_, "all offers"));
  SAE_RETURN_IF_ERROR(all_second_values_.Create(runtime, ranks * second, "all second values"));
  return all_second_ids_.Create(runtime, ranks * second, "all second ids");
}

absl::Status DeviceTopK::Offer(DeviceCollectives& collectives, void* stream) {
  device::OfferParams offer{values_.data(), ids_.data(), counts_.data(), tokens_,
                            shape_.k,       width_,      true,           offered_.data()};
  SAE_RETURN_IF_ERROR(Launched(cuda::Offer(offer, stream), "Offer"));
  return collectives.Gather(offered_.data(), tokens_ * width_, All(all_offered_, offered_));
}

absl::Status DeviceTopK::FindCut(const Cut& of, DeviceCollectives& collectives, void* stream) {
  device::GlobalCutParams cut;
  cut.offered = All(all_offered_, offered_);
  cut.ranks = collectives.size();
  cut.tokens = tokens_;
  cut.width = width_;
  cut.k = of.k;
  cut.cut_values = of.values.data();
  cut.cut_ids = of.ids.data();
  cut.unsafe = of.unsafe.data();
  cut.unsafe_count = of.unsafe_count.data();
  cut.capacity = unsafe_capacity_;
  cut.overflow = overflow_;
  SAE_RETURN_IF_ERROR(Launched(cuda::GlobalCut(cut, stream), "GlobalCut"));
  device::SecondOfferParams second;
  second.values = values_.data();
  second.ids = ids_.data();
  second.counts = counts_.data();
  second.k = shape_.k;
  second.unsafe = of.unsafe.data();
  second.unsafe_count = of.unsafe_count.data();
  second.capacity = unsafe_capacity_;
  second.global_ids = shape_.global_ids;
  second.out_values = second_values_.data();
  second.out_ids = second_ids_.data();
  SAE_RETURN_IF_ERROR(Launched(cuda::SecondOffer(second, stream), "SecondOffer"));
  const std::int64_t size = unsafe_capacity_ * shape_.k;
  SAE_RETURN_IF_ERROR(
      collectives.Gather(second_values_.data(), size, All(all_second_values_, second_values_)));
  SAE_RETURN_IF_ERROR(
      collectives.Gather(second_ids_.data(), size, All(all_second_ids_, second_ids_)));
  device::SecondCutParams last;
  last.values = All(all_second_values_, second_values_);
  last.ids = All(all_second_ids_, second_ids_);
  last.ranks = collectives.size();
  last.capacity = unsafe_capacity_;
  last.k = of.k;
  last.width = shape_.k;
  last.unsafe = of.unsafe.data();
  last.unsafe_count = of.unsafe_count.data();
  last.cut_values = of.values.data();
  last.cut_ids = of.ids.data();
  return Launched(cuda::SecondCut(last, stream), "SecondCut");
}

absl::Status DeviceTopK::Winners(const Cut& cut, DeviceEntries* out, void* stream) {
  device::WinnersParams winners;
  winners.values = values_.data();
  winners.ids = ids_.data();
  winners.counts = counts_.data();
  winners.k = shape_.k;
  winners.global_ids = shape_.global_ids;
  winners.cut_values = cut.values.data();
  winners.cut_ids = cut.ids.data();
  winners.out = cut.slots.First(tokens_);
  SAE_RETURN_IF_ERROR(Launched(cuda::Winners(winners, stream), "Winners"));
  return out->FromSlots(winners.out, stream);
}

absl::Status DeviceTopK::Select(cuda::DeviceLibrary* library, const device::EncodeParams& encode,
                                DeviceCollectives& collectives, DeviceEntries* out, void* stream) {
  tokens_ = encode.tokens;
  const device::TopKState state{shape_.k, values_.data(), ids_.data(), counts_.data()};
  const kernels::Error encoded =
      shape_.certified ? device::EncodeCertifiedTopK(library, encode, state, nullptr, stream)
                       : device::EncodeTopK(library, encode, state, stream);
  SAE_RETURN_IF_ERROR(Launched(encoded, "EncodeTopK"));
  if (offered_.count() > 0) {
    SAE_RETURN_IF_ERROR(Offer(collectives, stream));
  }
  if (cut_.values.count() > 0) {
    SAE_RETURN_IF_ERROR(FindCut(cut_, collectives, stream));
  }
  return Winners(cut_, out, stream);
}

absl::Status DeviceTopK::Narrow(DeviceCollectives& collectives, DeviceEntries* out, void* stream) {
  SAE_RETURN_IF_ERROR(FindCut(narrow_, collectives, stream));
  return Winners(narrow_, out, stream);
}

}  // namespace sae::train
