#pragma once
// Buffers of certified selection, grown on first use and kept; one call at a time.

#include <cstdint>
#include <vector>

#include "sae/base/check.h"
#include "sae/kernels/certified.h"
#include "sae/kernels/screen.h"

namespace sae::kernels {

struct CertifiedWorkspace {
  struct Worker {
    AlignedVector<float> z;             ///< one screened chunk
    AlignedVector<float> upper, lower;  ///< lists of candidates
    AlignedVector<std::int32_t> ids, tokens;
    AlignedVector<float> values;  ///< of one token: lower ends, rescored values
    std::vector<std::int64_t> counts;
    std::vector<float> floors;
    std::vector<Scored<float>> order;
    std::vector<std::int32_t> whole;  ///< tokens to compute whole
    CertifiedCounts did;
  };
  ScreenBounds bounds;
  std::vector<Worker> workers;
  CertifiedCounts did;
  std::vector<std::int32_t> whole, all;
  AlignedVector<float> x;  ///< rows of tokens computed whole
  TopK<float> rest;
};

/// The workspace's, made on first use, with a place for each thread; checks that the screen was
/// prepared for this input, and takes in its bounds.
CertifiedWorkspace& BeginCertified(const EncodeInput<float>& input,
                                   EncodeWorkspace<float>* workspace, ThreadPool& pool);

/// Row r of a screened chunk of `worker`; `token` is the row's place in the batch.
ScreenedRow ScreenedRowOf(const EncodeInput<float>& input, const CertifiedWorkspace& work,
                          const float* z, std::int64_t token, std::int64_t chunk);

}  // namespace sae::kernels
