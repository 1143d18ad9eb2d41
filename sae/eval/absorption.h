#pragma once
// Absorption with known truth: a parent feature P is absorbed on a row where it is active, none of
// its latents S fires, and another latent j with cos(d_j, F_P) >= 0.1 fires and carries f_j d_j .
// F_P
// >= 0.4 of x . F_P. Counts over all rows added. Not thread-safe; copies what it needs. Source:
// spec algorithms.md 10.1 (after Chanin et al. 2024).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/eval/dictionary_match.h"
#include "sae/kernels/codes.h"

namespace sae::eval {

struct AbsorptionOptions {
  double cosine = 0.1;  ///< of an absorbing latent, at least
  double share = 0.4;   ///< of the parent's projection that it carries, at least
};

struct AbsorptionReport {
  std::int64_t active = 0;  ///< rows where the parent is active
  double rate = 0;          ///< of these: absorbed
  double recall = 0;        ///< of these: a latent of S fires
  double recall_without_child = 0;
  double recall_with_child = 0;  ///< near 0 where children absorb; NaN where there are no such rows
};

class AbsorptionAccumulator {
 public:
  /// `parent`: F_P, a unit row [d]. `parent_latents`: S.
  AbsorptionAccumulator(std::span<const float> parent, std::span<const std::int64_t> parent_latents,
                        const Dictionary& decoder, AbsorptionOptions options = {});
  /// `x`: codes.tokens rows, without the data's bias; flags per row: parent active, some child
  /// active.
  void Add(std::span<const float> x, const kernels::Codes<float>& codes,
           std::span<const std::uint8_t> parent_active, std::span<const std::uint8_t> child_active);
  AbsorptionReport Result() const;

 private:
  const AbsorptionOptions options_;
  const std::vector<float> parent_;
  std::vector<double> projection_;                        // d_j . F_P
  std::vector<char> own_, absorber_;                      // j in S; j not in S and near enough
  std::int64_t rows_[2] = {0, 0}, recalled_[2] = {0, 0};  // without, with an active child
  std::int64_t absorbed_ = 0;
};

/// The latents that together detect a feature: `first`, then, of the others by falling F1, each
/// that raises the F1 of "any of them fires" by more than `jump`, up to the first that does not.
/// `fires`: [latents, rows], `truth`: [rows], both 0 or 1. A latent for the feature together with a
/// rarer one that implies it passes for a split too.
std::vector<std::int64_t> SplitLatents(std::span<const std::uint8_t> fires, std::int64_t latents,
                                       std::span<const std::uint8_t> truth, std::int64_t first,
                                       double jump = 0.03);

}  // namespace sae::eval
