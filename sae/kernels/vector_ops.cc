#include "sae/kernels/vector_ops.h"

#include <algorithm>
#include <array>
#include <vector>

#include "sae/kernels/row_ops.h"

namespace sae::kernels {
namespace {

// Columns are handled in groups whose float64 accumulators stay in cache while the rows stream by.
// The groups are fixed, so a column's sum never depends on how groups are dealt to threads.
constexpr std::int64_t kColumns = 64;

template <class T, class Weight>
void SumColumns(const T* a, std::int64_t rows, std::int64_t d, T* out, ThreadPool& pool,
                const Weight& weight) {
  const std::int64_t groups = (d + kColumns - 1) / kColumns;
  pool.ParallelFor(groups, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t group = begin; group < end; ++group) {
      const std::int64_t first = group * kColumns;
      const std::int64_t width = std::min(kColumns, d - first);
      std::array<double, kColumns> sum{};
      for (std::int64_t r = 0; r < rows; ++r) {
        const double w = weight(r);
        if (w == 0) continue;
        const T* row = a + r * d + first;
        for (std::int64_t j = 0; j < width; ++j)
          sum[static_cast<std::size_t>(j)] += w * static_cast<double>(row[j]);
      }
      for (std::int64_t j = 0; j < width; ++j)
        out[first + j] = static_cast<T>(sum[static_cast<std::size_t>(j)]);
    }
  });
}

}  // namespace

template <class T>
void ColumnSums(const T* a, std::int64_t rows, std::int64_t d, T* out, ThreadPool& pool) {
  SumColumns(a, rows, d, out, pool, [](std::int64_t) { return 1.0; });
}

template <class T>
void WeightedColumnSums(const T* weights, const T* a, std::int64_t rows, std::int64_t d, T* out,
                        ThreadPool& pool) {
  SumColumns(a, rows, d, out, pool,
             [=](std::int64_t r) { return static_cast<double>(weights[r]); });
}

template <class T>
double SquaredNorm(const T* a, std::int64_t rows, std::int64_t d, ThreadPool& pool) {
  constexpr std::int64_t kRows = 64;  // a fixed cut, whatever the number of threads
  const std::int64_t groups = (rows + kRows - 1) / kRows;
  std::vector<double> partial(static_cast<std::size_t>(groups), 0.0);
  pool.ParallelFor(groups, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t group = begin; group < end; ++group) {
      double sum = 0;
      for (std::int64_t r = group * kRows; r < std::min(rows, (group + 1) * kRows); ++r) {
        sum += SumOfSquares(d, a + r * d);
      }
      partial[static_cast<std::size_t>(group)] = sum;
    }
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

template <class T>
void FillRows(const T* row, std::int64_t rows, std::int64_t d, T* out, ThreadPool& pool) {
  pool.ParallelFor(rows, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) std::copy(row, row + d, out + r * d);
  });
}

template void ColumnSums(const float*, std::int64_t, std::int64_t, float*, ThreadPool&);
template void ColumnSums(const double*, std::int64_t, std::int64_t, double*, ThreadPool&);
template void WeightedColumnSums(const float*, const float*, std::int64_t, std::int64_t, float*,
                                 ThreadPool&);
template void WeightedColumnSums(const double*, const double*, std::int64_t, std::int64_t, double*,
                                 ThreadPool&);
template double SquaredNorm(const float*, std::int64_t, std::int64_t, ThreadPool&);
template double SquaredNorm(const double*, std::int64_t, std::int64_t, ThreadPool&);
template void FillRows(const float*, std::int64_t, std::int64_t, float*, ThreadPool&);
template void FillRows(const double*, std::int64_t, std::int64_t, double*, ThreadPool&);

}  // namespace sae::kernels
