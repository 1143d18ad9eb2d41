#include <algorithm>

#include "sae/kernels/device/certified.h"
#include "sae/kernels/device/encode_chunks.h"
#include "sae/kernels/device/prepare.h"

namespace sae::kernels::device {
namespace {

struct CertifiedScratch {
  EncodeScratch encode;
  LatentBounds latents;
  TokenBounds tokens;
  CandidateLists lists;
};

/// Twice what is expected once all columns were seen, and some for small k.
std::int64_t Limit(const EncodeParams& p, std::int64_t k) {
  return std::max(k, std::min({2 * k + 256, p.latents, kMaxCandidates}));
}

CertifiedScratch TakeScratch(const EncodeParams& p, std::int64_t k, ScratchParts* parts) {
  CertifiedScratch out;
  out.encode = TakeEncodeScratch(p, parts);
  for (float** bound : {&out.latents.norm, &out.latents.residual, &out.latents.margin})
    *bound = parts->Take<float>(p.latents);
  for (float** bound : {&out.tokens.of_residual, &out.tokens.of_norm, &out.tokens.extra})
    *bound = parts->Take<float>(p.tokens);
  out.lists.limit = Limit(p, k);
  out.lists.upper = parts->Take<float>(p.tokens * out.lists.limit);
  out.lists.lower = parts->Take<float>(p.tokens * out.lists.limit);
  out.lists.ids = parts->Take<std::int32_t>(p.tokens * out.lists.limit);
  out.lists.counts = parts->Take<std::int32_t>(p.tokens);
  out.lists.floors = parts->Take<std::uint32_t>(p.tokens);
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

/// Bounds of this step's weights and batch, and empty lists.
Error Begin(const EncodeParams& p, const CertifiedScratch& scratch, void* stream) {
  Error error = cuda::BoundLatents({p.w, p.c, p.latents, p.d, scratch.latents}, stream);
  if (error == Error::kOk)
    error = cuda::BoundTokens({p.x, p.tokens, p.d, p.scale, scratch.tokens}, stream);
  if (error == Error::kOk) error = cuda::Fill({scratch.lists.counts, p.tokens, 0}, stream);
  if (error != Error::kOk) return error;
  return cuda::Fill({reinterpret_cast<std::int32_t*>(scratch.lists.floors), p.tokens, 0}, stream);
}

}  // namespace

std::int64_t CertifiedScratchBytes(const EncodeParams& params, std::int64_t k) {
  ScratchParts parts(nullptr);
  TakeScratch(params, k, &parts);
  return parts.bytes();
}

Error EncodeCertifiedTopK(cuda::DeviceLibrary* library, const EncodeParams& params,
                          const TopKState& state, CertifiedStats* stats, void* stream) {
  if (!Valid(params) || state.k < 1 || state.k > kMaxTopK || params.exact ||
      params.ids != nullptr || (params.tokens > 0 && params.x == nullptr)) {
    return Error::kInvalidArgument;
  }
  if (params.tokens == 0 || params.latents == 0)
    return cuda::Fill({state.counts, params.tokens, 0}, stream);
  ScratchParts parts(params.scratch);
  const CertifiedScratch scratch = TakeScratch(params, state.k, &parts);
  Error error = Begin(params, scratch, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    const TokenBounds tokens = {scratch.tokens.of_residual + token, scratch.tokens.of_norm + token,
                                scratch.tokens.extra + token};
    return cuda::ScreenChunk(
        {chunk, state.k, scratch.latents, tokens, ListsFrom(scratch.lists, token)}, stream);
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

}  // namespace sae::kernels::device
