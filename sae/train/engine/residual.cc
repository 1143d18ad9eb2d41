#include "sae/train/engine/residual.h"

#include <algorithm>
#include <array>
#include <vector>

namespace sae::train {
namespace {

constexpr std::int64_t kBlocks = 64;

// Calls row(b) for all rows, in kBlocks parts; adds the parts' sums in order.
template <class Row>
double SumOverRows(std::int64_t tokens, ThreadPool& pool, const Row& row) {
  std::array<double, kBlocks> sums{};
  pool.ParallelFor(kBlocks, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t block = begin; block < end; ++block) {
      double sum = 0;
      for (std::int64_t b = tokens * block / kBlocks; b < tokens * (block + 1) / kBlocks; ++b)
        sum += row(b);
      sums[static_cast<std::size_t>(block)] = sum;
    }
  });
  double total = 0;
  for (const double s : sums) total += s;
  return total;
}

constexpr std::int64_t kLanes = 16;

// sum of value(j)^2 over [0, d) in interleaved lanes, which the compiler turns into vectors.
template <class Value>
double LaneSquares(std::int64_t d, const Value& value) {
  std::array<double, kLanes> lanes{};
  std::int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) {
    for (std::int64_t l = 0; l < kLanes; ++l) {
      const double v = value(j + l);
      lanes[static_cast<std::size_t>(l)] += v * v;
    }
  }
  for (; j < d; ++j) {
    const double v = value(j);
    lanes[0] += v * v;
  }
  double sum = 0;
  for (const double l : lanes) sum += l;
  return sum;
}

}  // namespace

template <class T>
double AuxResidual(const T* x, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                   T factor, T* out, ThreadPool& pool) {
  return SumOverRows(tokens, pool, [&](std::int64_t b) {
    const T* xb = x + b * d;
    const T* hb = x_hat + b * d;
    T* ob = out + b * d;
    for (std::int64_t j = 0; j < d; ++j) ob[j] += hb[j] - scale * xb[j];
    const double sum = LaneSquares(d, [&](std::int64_t j) { return static_cast<double>(ob[j]); });
    for (std::int64_t j = 0; j < d; ++j) ob[j] *= factor;
    return sum;
  });
}

template <class T>
double ResidualVariance(const T* x, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                        double* means, ThreadPool& pool) {
  pool.ParallelFor(d, [&](std::int64_t begin, std::int64_t end, int) {
    std::fill(means + begin, means + end, 0.0);
    for (std::int64_t b = 0; b < tokens; ++b) {
      for (std::int64_t j = begin; j < end; ++j)
        means[j] += static_cast<double>(x_hat[b * d + j] - scale * x[b * d + j]);
    }
    for (std::int64_t j = begin; j < end; ++j) means[j] /= static_cast<double>(tokens);
  });
  const double sum = SumOverRows(tokens, pool, [&](std::int64_t b) {
    const T* xb = x + b * d;
    const T* hb = x_hat + b * d;
    return LaneSquares(
        d, [&](std::int64_t j) { return static_cast<double>(hb[j] - scale * xb[j]) - means[j]; });
  });
  return sum / static_cast<double>(tokens * d);
}

#define SAE_INSTANTIATE(T)                                                              \
  template double AuxResidual(const T*, T, const T*, std::int64_t, std::int64_t, T, T*, \
                              ThreadPool&);                                             \
  template double ResidualVariance(const T*, T, const T*, std::int64_t, std::int64_t,   \
                                   double*, ThreadPool&)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::train
