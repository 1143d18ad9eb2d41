#pragma once
// Buffers of certified selection, grown on first use and kept; one call at a time.

#include <cstdint>
#include <vector>

#include "sae/base/check.h"
#include "sae/kernels/certified.h"
#include "sae/kernels/screen.h"

namespace sae::kernels {

/// Blocks of a group: as many tokens as a group of EncodeChunks has.
inline constexpr std::int64_t kScreenGroup = kBlocksPerGroup * kTokensPerBlock / kScreenTokens;

struct CertifiedWorkspace {
  struct Worker {
    AlignedVector<float> z;             ///< one screened chunk
    AlignedVector<float> upper, lower;  ///< candidates: a list a token (top-k), or one (others)
    AlignedVector<std::int32_t> ids, tokens;
    std::int64_t size = 0;        ///< of the one list
    AlignedVector<float> values;  ///< of one token: lower ends, rescored values
    std::vector<std::int64_t> counts;
    std::vector<float> floors;
    std::vector<Scored<float>> order;
    std::vector<std::uint64_t> places;  ///< (token, latent) of entries tied at a cut
    std::vector<std::int32_t> whole;    ///< top-k: tokens to compute whole
    CertifiedCounts did;
    bool nan = false;

    /// Room for `more` entries, and slack, behind the one list.
    void Reserve(std::int64_t more);
    Bounded List() { return {upper.data(), lower.data(), ids.data(), tokens.data()}; }
  };
  ScreenBounds bounds;
  std::vector<Worker> workers;
  CertifiedCounts did;
  std::vector<std::int32_t> whole, all;
  AlignedVector<float> x;     ///< rows of tokens computed whole
  AlignedVector<float> none;  ///< a chunk of -0: the bias that leaves any value as it is
  AlignedVector<float> lower;  ///< all workers' lower ends, for one floor
  TopK<float> rest;
  std::vector<std::int64_t> next;
};

/// The workspace's, made on first use, with a place for each thread; checks that the screen was
/// prepared for this input, and takes in its bounds.
CertifiedWorkspace& BeginCertified(const EncodeInput<float>& input,
                                   EncodeWorkspace<float>* workspace, ThreadPool& pool);

/// Row r of a screened chunk of `worker`; `token` is the row's place in the batch.
ScreenedRow ScreenedRowOf(const EncodeInput<float>& input, const CertifiedWorkspace& work,
                          const float* z, std::int64_t token, std::int64_t chunk);

/// Pre-activations by the reference of `tokens` tokens from `token` and the whole chunk, at z with
/// leading dimension kScreenLatents.
void ReferenceChunk(const EncodeInput<float>& input, std::int64_t token, std::int64_t tokens,
                    std::int64_t chunk, float* z);

/// The workers' lists as codes: `lower` are the values. The tokens of a worker are its own, and its
/// list has the entries of a token by ascending latent.
void GatherLists(CertifiedWorkspace& work, Codes<float>* out, ThreadPool& pool);

}  // namespace sae::kernels
