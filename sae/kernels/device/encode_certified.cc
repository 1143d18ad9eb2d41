#include <algorithm>

#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/certified_above.h"
#include "sae/kernels/device/encode_chunks.h"
#include "sae/kernels/device/prepare.h"

namespace sae::kernels::device {
namespace {

struct Bounds {
  LatentBounds latents;
  TokenBounds tokens;
};
struct CertifiedScratch {
  EncodeScratch encode;
  Bounds bounds;
  CandidateLists lists;    ///< top-k
  float* lower = nullptr;  ///< [tokens, capacity]: slots
};

/// Twice what is expected once all columns were seen, and some for small k.
std::int64_t Limit(const EncodeParams& p, std::int64_t k) {
  return std::max(k, std::min({2 * k + 256, p.latents, kMaxCandidates}));
}

CertifiedScratch TakeBounds(const EncodeParams& p, ScratchParts* parts) {
  CertifiedScratch out;
  out.encode = TakeEncodeScratch(p, parts);
  LatentBounds& latents = out.bounds.latents;
  for (float** bound : {&latents.norm, &latents.residual, &latents.margin})
    *bound = parts->Take<float>(p.latents);
  TokenBounds& tokens = out.bounds.tokens;
  for (float** bound : {&tokens.of_residual, &tokens.of_norm, &tokens.extra})
    *bound = parts->Take<float>(p.tokens);
  return out;
}

CertifiedScratch TakeListScratch(const EncodeParams& p, std::int64_t k, ScratchParts* parts) {
  CertifiedScratch out = TakeBounds(p, parts);
  out.lists.limit = Limit(p, k);
  out.lists.upper = parts->Take<float>(p.tokens * out.lists.limit);
  out.lists.lower = parts->Take<float>(p.tokens * out.lists.limit);
  out.lists.ids = parts->Take<std::int32_t>(p.tokens * out.lists.limit);
  out.lists.counts = parts->Take<std::int32_t>(p.tokens);
  out.lists.floors = parts->Take<std::uint32_t>(p.tokens);
  return out;
}

CertifiedScratch TakeSlotScratch(const EncodeParams& p, std::int64_t capacity,
                                 ScratchParts* parts) {
  CertifiedScratch out = TakeBounds(p, parts);
  out.lower = parts->Take<float>(p.tokens * capacity);
  return out;
}

CandidateLists ListsFrom(const CandidateLists& lists, std::int64_t token) {
  CandidateLists out = lists;
  out.upper += token * lists.limit;
  out.lower += token * lists.limit;
  out.ids += token * lists.limit;
  out.counts += token;
  out.floors += token;
  return out;
}

TokenBounds TokensFrom(const TokenBounds& tokens, std::int64_t token) {
  return {tokens.of_residual + token, tokens.of_norm + token, tokens.extra + token};
}

/// Of this step's weights and batch.
Error FillBounds(const EncodeParams& p, const Bounds& bounds, void* stream) {
  const Error error = cuda::BoundLatents({p.w, p.c, p.latents, p.d, bounds.latents}, stream);
  if (error != Error::kOk) return error;
  return cuda::BoundTokens({p.x, p.tokens, p.d, p.scale, bounds.tokens}, stream);
}

bool Screens(const EncodeParams& p) {
  return Valid(p) && !p.exact && p.ids == nullptr && (p.tokens == 0 || p.x != nullptr);
}
bool Empty(const EncodeParams& p) { return p.tokens == 0 || p.latents == 0; }

/// One chunk into slots.
Error ScreenInto(const CertifiedScratch& scratch, const ChunkProducts& chunk, std::int64_t token,
                 const float* lower, const float* floor, const Slots& slots, void* stream) {
  ScreenAboveParams screen;
  screen.chunk = chunk;
  screen.latents = scratch.bounds.latents;
  screen.tokens = TokensFrom(scratch.bounds.tokens, token);
  screen.lower = lower;
  screen.floor = floor;
  screen.out = SlotsFrom(slots, token, chunk.tokens);
  screen.lower_ends = scratch.lower + token * slots.capacity;
  return cuda::ScreenAbove(screen, stream);
}

Error RescoreSlots(const EncodeParams& p, const float* lower, const float* floor,
                   const Slots& slots, CertifiedStats* stats, void* stream) {
  RescoreAboveParams rescore;
  rescore.w = p.w;
  rescore.c = p.c;
  rescore.latents = p.latents;
  rescore.d = p.d;
  rescore.x = p.x;
  rescore.scale = p.scale;
  rescore.lower = lower;
  rescore.floor = floor;
  rescore.slots = slots;
  rescore.finite = p.finite;
  rescore.stats = stats;
  return cuda::RescoreAbove(rescore, stream);
}

}  // namespace

std::int64_t CertifiedScratchBytes(const EncodeParams& params, std::int64_t k) {
  ScratchParts parts(nullptr);
  TakeListScratch(params, k, &parts);
  return parts.bytes();
}

std::int64_t CertifiedSlotsScratchBytes(const EncodeParams& params, std::int64_t capacity) {
  ScratchParts parts(nullptr);
  TakeSlotScratch(params, capacity, &parts);
  return parts.bytes();
}

Error EncodeCertifiedTopK(cuda::DeviceLibrary* library, const EncodeParams& params,
                          const TopKState& state, CertifiedStats* stats, void* stream) {
  if (!Screens(params) || state.k < 1 || state.k > kMaxTopK) return Error::kInvalidArgument;
  if (Empty(params)) return cuda::Fill({state.counts, params.tokens, 0}, stream);
  ScratchParts parts(params.scratch);
  const CertifiedScratch scratch = TakeListScratch(params, state.k, &parts);
  Error error = FillBounds(params, scratch.bounds, stream);
  if (error == Error::kOk) error = cuda::Fill({scratch.lists.counts, params.tokens, 0}, stream);
  if (error == Error::kOk) {
    error = cuda::Fill({reinterpret_cast<std::int32_t*>(scratch.lists.floors), params.tokens, 0},
                       stream);
  }
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    return cuda::ScreenChunk(
        {chunk, state.k, scratch.bounds.latents, TokensFrom(scratch.bounds.tokens, token),
         ListsFrom(scratch.lists, token)},
        stream);
  };
  const auto nothing = [](std::int64_t /*end*/) { return Error::kOk; };
  error =
      EncodeChunks(library, params, scratch.encode, FirstColumns(params), select, nothing, stream);
  if (error != Error::kOk) return error;
  RescoreParams rescore;
  rescore.w = params.w;
  rescore.c = params.c;
  rescore.latents = params.latents;
  rescore.d = params.d;
  rescore.x = params.x;
  rescore.tokens = params.tokens;
  rescore.scale = params.scale;
  rescore.lists = scratch.lists;
  rescore.k = state.k;
  rescore.values = state.values;
  rescore.ids = state.ids;
  rescore.counts = state.counts;
  rescore.finite = params.finite;
  rescore.stats = stats;
  return cuda::Rescore(rescore, stream);
}

Error EncodeCertifiedAbove(cuda::DeviceLibrary* library, const EncodeParams& params,
                           const float* lower, const Slots& slots, CertifiedStats* stats,
                           void* stream) {
  if (!Screens(params) || slots.tokens != params.tokens) return Error::kInvalidArgument;
  Error error = cuda::Fill({slots.counts, params.tokens, 0}, stream);
  if (error != Error::kOk || Empty(params)) return error;
  ScratchParts parts(params.scratch);
  const CertifiedScratch scratch = TakeSlotScratch(params, slots.capacity, &parts);
  error = FillBounds(params, scratch.bounds, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    return ScreenInto(scratch, chunk, token, lower, nullptr, slots, stream);
  };
  const auto nothing = [](std::int64_t /*end*/) { return Error::kOk; };
  error =
      EncodeChunks(library, params, scratch.encode, FirstColumns(params), select, nothing, stream);
  if (error != Error::kOk) return error;
  return RescoreSlots(params, lower, nullptr, slots, stats, stream);
}

Error EncodeCertifiedLargest(cuda::DeviceLibrary* library, const EncodeParams& params,
                             const LargestParams& largest, CertifiedStats* stats, void* stream) {
  if (!Screens(params) || !Valid(params, largest)) return Error::kInvalidArgument;
  Error error = BeginLargest(largest, stream);
  if (error != Error::kOk || Empty(params)) return error;
  ScratchParts parts(params.scratch);
  const CertifiedScratch scratch = TakeSlotScratch(params, largest.slots.capacity, &parts);
  error = FillBounds(params, scratch.bounds, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    return ScreenInto(scratch, chunk, token, nullptr, largest.floor, largest.slots, stream);
  };
  std::int64_t raised = 0;
  const auto between = [&](std::int64_t end) {
    if (!RaisesAt(params, end, &raised)) return Error::kOk;
    return Raise(largest, scratch.lower, scratch.lower, stream);
  };
  error = EncodeChunks(library, params, scratch.encode, FirstColumns(params, largest), select,
                       between, stream);
  if (error == Error::kOk)
    error = RescoreSlots(params, nullptr, largest.floor, largest.slots, stats, stream);
  if (error != Error::kOk) return error;
  return Raise(largest, largest.slots.values, nullptr, stream);
}

}  // namespace sae::kernels::device
