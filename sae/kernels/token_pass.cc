#include "sae/kernels/token_pass.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "sae/kernels/row_ops.h"

namespace sae::kernels {
namespace {

constexpr std::int64_t kTokens = 32;  // of a block: fixed, whatever the number of threads

/// sum over blocks, in order, of body(first token, last token, worker), made by whoever is free.
template <class Body>
double SumOverBlocks(std::int64_t tokens, ThreadPool& pool, const Body& body) {
  const std::int64_t blocks = (tokens + kTokens - 1) / kTokens;
  std::vector<double> sums(static_cast<std::size_t>(blocks), 0.0);
  std::atomic<std::int64_t> taken{0};
  pool.ParallelFor(pool.size(), [&](std::int64_t, std::int64_t, int) {
    for (std::int64_t block = taken++; block < blocks; block = taken++) {
      sums[static_cast<std::size_t>(block)] =
          body(block * kTokens, std::min(tokens, (block + 1) * kTokens));
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

/// The decoder rows of one token's entries and what they are multiplied by.
template <class T>
struct Entries {
  std::vector<T> a;
  std::vector<const T*> rows;

  void Collect(const TokenPassInput<T>& in, std::int64_t token) {
    const Codes<T>& codes = *in.codes;
    const std::int64_t begin = codes.indptr[static_cast<std::size_t>(token)];
    const std::int64_t end = codes.indptr[static_cast<std::size_t>(token) + 1];
    a.resize(static_cast<std::size_t>(end - begin));
    rows.resize(a.size());
    for (std::int64_t e = begin; e < end; ++e) {
      const auto at = static_cast<std::size_t>(e - begin);
      const std::int32_t id = codes.ids[static_cast<std::size_t>(e)];
      a[at] = in.row_scale == nullptr ? in.f[e] : in.f[e] * in.row_scale[id];
      rows[at] = in.decoder + id * in.d;
    }
  }
  RowList<T> List(std::size_t limit) const {
    return {static_cast<std::int64_t>(std::min(limit, a.size())), a.data(), rows.data()};
  }
};

}  // namespace

template <class T>
double TokenPass(const TokenPassInput<T>& in, T* x_hat, T* g, T* u, ThreadPool& pool) {
  constexpr std::size_t kFetched = 64;  // rows of the next token that are fetched early, at most
  const Codes<T>& codes = *in.codes;
  return SumOverBlocks(codes.tokens, pool, [&](std::int64_t begin, std::int64_t end) {
    Entries<T> now;
    Entries<T> next;
    next.Collect(in, begin);
    double sum = 0;
    for (std::int64_t token = begin; token < end; ++token) {
      std::swap(now, next);
      if (token + 1 < end) next.Collect(in, token + 1);
      T* const xb = x_hat + token * in.d;
      T* const gb = g + token * in.d;
      AddRows(in.d, now.List(now.a.size()), next.List(token + 1 < end ? kFetched : 0), xb);
      sum += ErrorRow(in.d, in.target + token * in.d, in.target_scale, xb, in.factor, gb);
      const std::int64_t first = codes.indptr[static_cast<std::size_t>(token)];
      const auto count = static_cast<std::int64_t>(now.a.size());
      DotRows(in.d, count, now.rows.data(), gb, u + first);
      for (std::int64_t e = first; in.row_scale != nullptr && e < first + count; ++e) {
        u[e] *= in.row_scale[codes.ids[static_cast<std::size_t>(e)]];
      }
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
