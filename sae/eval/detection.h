#pragma once
// Latents as detectors of true features: precision, recall and F1 of each latent for the one
// feature it is matched with (its best match, or the argmax of its cosines). A latent fires where f
// > 0, a feature where its magnitude is > 0. Counts over all rows added, finalised once. Not
// thread-safe. Source: spec algorithms.md 13.2 (SynthSAEBench).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/codes.h"

namespace sae::eval {

/// 0 where undefined (nothing fired, nothing to find).
struct Detection {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};
Detection DetectionOf(std::int64_t hits, std::int64_t fired, std::int64_t present);

class DetectionAccumulator {
 public:
  /// `partner`: the feature of each latent, -1 = none.
  DetectionAccumulator(std::vector<std::int64_t> partner, std::int64_t features);
  /// `truth`: codes.tokens x features.
  void Add(const kernels::Codes<float>& codes, std::span<const float> truth);

  std::vector<Detection> PerLatent() const;
  Detection Mean() const;  ///< of each figure, over latents
  std::int64_t rows() const { return rows_; }

 private:
  const std::vector<std::int64_t> partner_;
  std::vector<std::int64_t> hits_, fired_, present_;  // per latent, per latent, per feature
  std::int64_t rows_ = 0;
};

}  // namespace sae::eval
