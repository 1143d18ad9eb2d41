#include "sae/config/dense_density.h"

#include <algorithm>

namespace sae::config {
namespace {

/// The two cost the same at 0.16 (d = 64) to 0.20 (d = 576) of relu_l1's codes, 0.16 (16384
/// latents) to 0.23 (2048) of gated's, in processor time of an AVX-512 core; more threads share
/// less bandwidth for gathers.
constexpr double kFaster = 0.15;
/// Of a rank: 32 MiB of relu_l1's.
constexpr double kEntries = 1 << 21;
/// A larger step may hold this share in spite of it.
constexpr double kLeast = 0.05;

}  // namespace

bool HasDenseStep(const TrialConfig& c) {
  return (c.sae.architecture == "relu_l1" || c.sae.architecture == "gated") &&
         c.train.rows == "dense" && c.train.decoder_layout == "latents" && (c.sae.decoder == "unit" || c.sae.decoder == "free") &&
         c.train.reduction == "fast" && c.train.selection != "certified" && c.train.clip <= 0;
}

double DenseDensity(const TrialConfig& c) {
  if (!HasDenseStep(c)) return 2;
  const double codes = static_cast<double>(c.train.batch) * static_cast<double>(c.sae.latents) /
                       static_cast<double>(std::max<std::int64_t>(1, c.ranks));
  return std::min(kFaster, std::max(kLeast, kEntries / std::max(codes, 1.0)));
}

}  // namespace sae::config
