#include "sae/kernels/token_pass.h"

#include <array>
#include <atomic>

#include "sae/kernels/token_rows.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kBlocks = 64;  // of tokens: fixed, whatever the number of threads

/// sum over blocks, in order, of body(first token, last token), made by whoever is free.
template <class Body>
double SumOverBlocks(std::int64_t tokens, ThreadPool& pool, const Body& body) {
  std::array<double, kBlocks> sums{};
  std::atomic<std::int64_t> taken{0};
  pool.ParallelFor(pool.size(), [&](std::int64_t, std::int64_t, int) {
    for (std::int64_t block = taken++; block < kBlocks; block = taken++) {
      sums[static_cast<std::size_t>(block)] =
          body(tokens * block / kBlocks, tokens * (block + 1) / kBlocks);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace

template <class T>
double TokenPass(const TokenPassInput<T>& in, T* x_hat, T* g, T* u, ThreadPool& pool) {
  const TokenRows<T> rows{in.codes->ids.data(), in.decoder, in.row_scale, in.d};
  const std::int64_t* indptr = in.codes->indptr.data();
  return SumOverBlocks(in.codes->tokens, pool, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t token = begin; token < end; ++token) {
      T* const xb = x_hat + token * in.d;
      T* const gb = g + token * in.d;
      rows.Add(indptr[token], indptr[token + 1], indptr[end], in.f, xb);
      sum += ErrorRow(in.d, in.target + token * in.d, in.target_scale, xb, in.factor, gb);
      rows.Dot(indptr[token], indptr[token + 1], gb, u);
    }
    return sum;
  });
}

template <class T>
double Residual(const T* target, T scale, const T* x_hat, std::int64_t tokens, std::int64_t d,
                T factor, T* g, ThreadPool& pool) {
  return SumOverBlocks(tokens, pool, [=](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t b = begin; b < end; ++b) {
      sum += ErrorRow(d, target + b * d, scale, x_hat + b * d, factor, g + b * d);
    }
    return sum;
  });
}

#define SAE_INSTANTIATE(T)                                                      \
  template double TokenPass(const TokenPassInput<T>&, T*, T*, T*, ThreadPool&); \
  template double Residual(const T*, T, const T*, std::int64_t, std::int64_t, T, T*, ThreadPool&);
SAE_INSTANTIATE(float)
SAE_INSTANTIATE(double)
#undef SAE_INSTANTIATE

}  // namespace sae::kernels
