#include "sae/eval/dictionary_match.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "sae/eval/assignment.h"
#include "sae/kernels/gemm.h"

namespace sae::eval {
namespace {

constexpr std::int64_t kBlock = 512;

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

std::vector<float> UnitRows(const Dictionary& a) {
  std::vector<float> out(a.rows.begin(), a.rows.end());
  for (std::int64_t i = 0; i < a.count(); ++i) {
    double squares = 0;
    float* row = out.data() + i * a.d;
    for (std::int64_t c = 0; c < a.d; ++c) squares += static_cast<double>(row[c]) * row[c];
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (std::int64_t c = 0; c < a.d; ++c) row[c] = static_cast<float>(row[c] * scale);
  }
  return out;
}

/// Calls use(i, j, cosine) for all pairs, block by block, j ascending for each i.
template <class Use>
void ForEachPair(const Dictionary& a, const Dictionary& b, Cosine kind, ThreadPool& pool, Use use) {
  const std::vector<float> left = UnitRows(a), right = UnitRows(b);
  std::vector<float> block(Size(kBlock * kBlock));
  for (std::int64_t i0 = 0; i0 < a.count(); i0 += kBlock) {
    const std::int64_t m = std::min(kBlock, a.count() - i0);
    for (std::int64_t j0 = 0; j0 < b.count(); j0 += kBlock) {
      const std::int64_t n = std::min(kBlock, b.count() - j0);
      kernels::Gemm(m, n, a.d, left.data() + i0 * a.d, a.d, right.data() + j0 * a.d, a.d,
                    block.data(), kBlock, pool);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const double c = block[Size(i * kBlock + j)];
          use(i0 + i, j0 + j, kind == Cosine::kAbsolute ? std::abs(c) : c);
        }
      }
    }
  }
}

Nearest FindNearest(const Dictionary& a, const Dictionary& b, Cosine kind, bool others,
                    ThreadPool& pool) {
  Nearest out;
  out.partner.assign(Size(a.count()), -1);
  out.cosine.assign(Size(a.count()), 0);
  ForEachPair(a, b, kind, pool, [&](std::int64_t i, std::int64_t j, double cosine) {
    if (others && i == j) return;
    if (out.partner[Size(i)] >= 0 && cosine <= out.cosine[Size(i)]) return;
    out.partner[Size(i)] = j;
    out.cosine[Size(i)] = cosine;
  });
  return out;
}

}  // namespace

std::vector<double> CosineMatrix(const Dictionary& a, const Dictionary& b, Cosine kind,
                                 ThreadPool& pool) {
  std::vector<double> out(Size(a.count() * b.count()));
  ForEachPair(a, b, kind, pool, [&](std::int64_t i, std::int64_t j, double cosine) {
    out[Size(i * b.count() + j)] = cosine;
  });
  return out;
}

double Nearest::mean() const {
  double sum = 0;
  for (const double c : cosine) sum += c;
  return sum / static_cast<double>(cosine.size());
}

Nearest NearestRows(const Dictionary& a, const Dictionary& b, Cosine kind, ThreadPool& pool) {
  return FindNearest(a, b, kind, false, pool);
}

Nearest NearestOthers(const Dictionary& a, Cosine kind, ThreadPool& pool) {
  return FindNearest(a, a, kind, true, pool);
}

double Uniqueness(const Nearest& nearest) {
  const std::set<std::int64_t> distinct(nearest.partner.begin(), nearest.partner.end());
  return static_cast<double>(distinct.size()) / static_cast<double>(nearest.partner.size());
}

absl::StatusOr<Matching> MatchRows(const Dictionary& a, const Dictionary& b, Cosine kind,
                                   ThreadPool& pool) {
  if (a.d < 1 || a.d != b.d) {
    return absl::InvalidArgumentError(
        absl::StrCat("matching: dictionaries of widths ", a.d, " and ", b.d, " do not compare"));
  }
  const std::vector<double> cosines = CosineMatrix(a, b, kind, pool);
  SAE_ASSIGN_OR_RETURN(Assignment best, AssignMax(cosines, a.count(), b.count()));
  Matching out;
  out.partner = std::move(best.column);
  for (std::int64_t i = 0; i < a.count(); ++i) {
    const std::int64_t j = out.partner[Size(i)];
    out.cosine.push_back(j < 0 ? 0 : cosines[Size(i * b.count() + j)]);
    out.pairs += j < 0 ? 0 : 1;
  }
  out.mean_cosine = out.pairs > 0 ? best.total / static_cast<double>(out.pairs)
                                  : std::numeric_limits<double>::quiet_NaN();
  return out;
}

double SharedFraction(const Matching& decoder, double threshold, const Matching* encoder) {
  std::int64_t shared = 0;
  for (std::size_t i = 0; i < decoder.partner.size(); ++i) {
    const bool agree = encoder == nullptr || encoder->partner[i] == decoder.partner[i];
    shared += decoder.partner[i] >= 0 && decoder.cosine[i] >= threshold && agree ? 1 : 0;
  }
  return static_cast<double>(shared) / static_cast<double>(decoder.pairs);
}

double ChanceCosine(std::int64_t n, std::int64_t d) {
  return std::sqrt(2 * std::log(static_cast<double>(n)) / static_cast<double>(d));
}

}  // namespace sae::eval
