#include "sae/train/device/device_winners.h"

#include <algorithm>

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::Status DeviceWinners::Create(DeviceRuntime& runtime, const Shape& shape,
                                   std::int32_t* overflow) {
  shape_ = shape;
  overflow_ = overflow;
  own_ = nullptr;
  own_blocks_ = device::kColumnBlocks / shape.ranks;
  const std::int64_t ranks = shape.ranks;
  stride_ = ranks == 1 ? shape.own_capacity : std::min(ranks * shape.room, shape.most);
  SAE_RETURN_IF_ERROR(parts_.Create(runtime, device::kColumnBlocks * stride_, "gradient parts"));
  if (ranks == 1) return absl::OkStatus();
  const std::int64_t words = device::WinnerWords(shape.tokens, shape.room);
  SAE_RETURN_IF_ERROR(sent_.Create(runtime, words, "winners"));
  SAE_RETURN_IF_ERROR(received_.Create(runtime, ranks * words, "all winners"));
  SAE_RETURN_IF_ERROR(place_.Create(runtime, ranks * shape.room, "places of winners"));
  if (shape.second) {
    SAE_RETURN_IF_ERROR(
        received_values_.Create(runtime, ranks * shape.room, "all values of winners"));
    SAE_RETURN_IF_ERROR(placed_.Create(runtime, stride_, "values of winners"));
  }
  return merged_.Create(runtime, shape.tokens, stride_, shape.latents, false);
}

absl::Status DeviceWinners::Gather(const DeviceEntries& own, DeviceCollectives& collectives,
                                   void* stream) {
  own_ = &own;
  if (shape_.ranks == 1) return absl::OkStatus();
  const std::int64_t tokens = own.codes().tokens;
  device::PackWinnersParams pack;
  pack.codes = own.codes();
  pack.f = own.f();
  pack.global_ids = shape_.global_ids;
  pack.capacity = shape_.room;
  pack.out = sent_.data();
  pack.overflow = overflow_;
  SAE_RETURN_IF_ERROR(Launched(cuda::PackWinners(pack, stream), "PackWinners"));
  SAE_RETURN_IF_ERROR(
      collectives.Gather(sent_.data(), device::WinnerWords(tokens, shape_.room), received_.data()));
  merged_.SetTokens(tokens);
  device::MergeWinnersParams merge;
  merge.all = received_.data();
  merge.ranks = shape_.ranks;
  merge.capacity = shape_.room;
  merge.out = merged_.codes();
  merge.place = place_.data();
  merge.overflow = overflow_;
  SAE_RETURN_IF_ERROR(Launched(cuda::MergeWinners(merge, stream), "MergeWinners"));
  return merged_.BuildIndex(stream);
}

absl::Status DeviceWinners::GatherValues(const float* own, DeviceCollectives& collectives,
                                         void* stream) {
  second_ = own;
  if (shape_.ranks == 1) return absl::OkStatus();
  second_ = placed_.data();
  SAE_RETURN_IF_ERROR(collectives.Gather(own, shape_.room, received_values_.data()));
  device::PlaceValuesParams place;
  place.winners = received_.data();
  place.all = received_values_.data();
  place.place = place_.data();
  place.ranks = shape_.ranks;
  place.tokens = merged_.codes().tokens;
  place.capacity = shape_.room;
  place.out = placed_.data();
  return Launched(cuda::PlaceValues(place, stream), "PlaceValues");
}

absl::Status DeviceWinners::AddParts(float* u, float* own_u, DeviceCollectives& collectives,
                                     void* stream) {
  device::AddPartsParams add;
  add.parts = parts_.data();
  add.stride = stride_;
  add.entries = all().count();
  if (shape_.ranks == 1) {
    add.u = own_u;
    return Launched(cuda::AddParts(add, stream), "AddParts");
  }
  SAE_RETURN_IF_ERROR(collectives.ShareParts(parts_.data(), parts_.bytes()));
  add.u = u;
  add.own_entries = own_->count();
  add.own_place = place_.data() + shape_.rank * shape_.room;
  add.own_capacity = shape_.room;
  add.own_u = own_u;
  return Launched(cuda::AddParts(add, stream), "AddParts");
}

}  // namespace sae::train
