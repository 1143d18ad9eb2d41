#pragma once
// How alike two dictionaries are: nearest rows, one-to-one matching, and the figures made of them.
// Dictionaries are rows [count, d], any norm; a zero row has cosine 0 with all. Cosines are float32
// products of unit rows. Against known features signs do not matter (kAbsolute), between two SAEs
// they do. Pure but for the pool; no ownership. Sources: Sharkey et al. 2022 (MMCS); Paulo and
// Belrose 2025 (shared fraction); SynthSAEBench (MCC, uniqueness); spec algorithms.md 8.12, 10.5.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/base/status.h"

namespace sae::eval {

struct Dictionary {
  std::span<const float> rows;
  std::int64_t d = 0;
  std::int64_t count() const { return d > 0 ? static_cast<std::int64_t>(rows.size()) / d : 0; }
};

enum class Cosine { kSigned, kAbsolute };

/// [a.count(), b.count()].
std::vector<double> CosineMatrix(const Dictionary& a, const Dictionary& b, Cosine kind,
                                 ThreadPool& pool);

struct Nearest {
  std::vector<std::int64_t> partner;  ///< per row of a, the lowest of equals; -1 where b is empty
  std::vector<double> cosine;
  /// Mean cosine: MMCS(a -> b). NaN for no rows.
  double mean() const;
};
/// Of each row of `a` in `b`. Needs memory for blocks only, not for all pairs.
Nearest NearestRows(const Dictionary& a, const Dictionary& b, Cosine kind, ThreadPool& pool);
/// Of each row among the others: max_{j != i} cos(d_i, d_j).
Nearest NearestOthers(const Dictionary& a, Cosine kind, ThreadPool& pool);
/// Distinct partners over rows.
double Uniqueness(const Nearest& nearest);

struct Matching {
  std::vector<std::int64_t> partner;  ///< per row of a, -1 = none (a is larger)
  std::vector<double> cosine;         ///< 0 where there is none
  std::int64_t pairs = 0;
  double mean_cosine = 0;  ///< over pairs: MCC
};
/// One to one, of the greatest sum of cosines (assignment.h): min(count) pairs. O(n^3) time and all
/// pairs in memory: minutes at 4096 x 16384.
[[nodiscard]] absl::StatusOr<Matching> MatchRows(const Dictionary& a, const Dictionary& b,
                                                 Cosine kind, ThreadPool& pool);

/// Pairs with cosine >= threshold over pairs; with `encoder` (a matching of the same latents by
/// encoder rows) only those that have the same partner there.
double SharedFraction(const Matching& decoder, double threshold = 0.7,
                      const Matching* encoder = nullptr);

/// About what the nearest of n random rows has by chance: sqrt(2 ln n / d).
double ChanceCosine(std::int64_t n, std::int64_t d);

}  // namespace sae::eval
