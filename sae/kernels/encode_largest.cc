// BatchTopK's candidates: each worker appends what reaches its floor and, when its list is twice
// as long as the wanted count, cuts it back to its own `count` first, which raises the floor.
// Within a block later chunks bring earlier tokens, so a value equal to the floor may still win its
// tie: it is kept, and a cut orders ties by (token, latent).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

#include "sae/base/check.h"
#include "sae/kernels/certified.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"

namespace sae::kernels {
namespace {

template <class T>
using Worker = typename EncodeWorkspace<T>::Worker;

template <class T>
std::uint64_t Place(const Worker<T>& worker, std::int64_t e) {
  const auto at = static_cast<std::size_t>(e);
  return std::uint64_t{static_cast<std::uint32_t>(worker.tokens[at])} << 32 |
         static_cast<std::uint32_t>(worker.ids[at]);
}

/// Keeps the first `keep` of the entries equal to `value`.
template <class T>
void DropTies(Worker<T>& worker, T value, std::int64_t keep) {
  worker.places.clear();
  for (std::int64_t e = 0; e < worker.size; ++e) {
    if (worker.values[static_cast<std::size_t>(e)] == value)
      worker.places.push_back(Place<T>(worker, e));
  }
  const auto last = worker.places.begin() + (keep - 1);
  std::nth_element(worker.places.begin(), last, worker.places.end());
  std::size_t to = 0;
  for (std::int64_t e = 0; e < worker.size; ++e) {
    const auto from = static_cast<std::size_t>(e);
    if (worker.values[from] == value && Place<T>(worker, e) > *last) continue;
    worker.values[to] = worker.values[from];
    worker.ids[to] = worker.ids[from];
    worker.tokens[to++] = worker.tokens[from];
  }
  worker.size = static_cast<std::int64_t>(to);
}

template <class T>
void CutBack(Worker<T>& worker, std::int64_t count) {
  T bound;
  const std::int64_t reach = BoundOfTop(worker.values.data(), worker.size, count, &bound);
  worker.size =
      KeepFrom(worker.values.data(), worker.ids.data(), worker.tokens.data(), worker.size, bound);
  if (reach > count) {
    const std::int64_t above = std::count_if(
        worker.values.begin(), worker.values.begin() + worker.size, [=](T v) { return v > bound; });
    DropTies<T>(worker, bound, count - above);
  }
  worker.floor = bound;
}

template <class T>
void Append(const Chunk<T>& chunk, std::int64_t count, Worker<T>& worker, bool* nan) {
  for (std::int64_t r = 0; r < chunk.tokens; ++r) {
    const std::int64_t hits =
        FilterFrom(RowOf(chunk, r, chunk.latent), worker.floor, worker.values.data() + worker.size,
                   worker.ids.data() + worker.size, nan);
    std::fill_n(worker.tokens.begin() + worker.size, hits,
                static_cast<std::int32_t>(chunk.token + r));
    worker.size += hits;
    if (worker.size >= 2 * count) CutBack<T>(worker, count);
  }
}

/// A stable counting sort by token: the tokens of a worker are its own, and its list has the
/// entries of a token by ascending latent.
template <class T>
void Gather(EncodeWorkspace<T>* workspace, int workers, Codes<T>* out, ThreadPool& pool) {
  std::int64_t* indptr = out->indptr.data();
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t w = begin; w < end; ++w) {
      const Worker<T>& worker = workspace->workers[static_cast<std::size_t>(w)];
      for (std::int64_t e = 0; e < worker.size; ++e)
        ++indptr[worker.tokens[static_cast<std::size_t>(e)] + 1];
    }
  });
  for (std::int64_t token = 0; token < out->tokens; ++token) indptr[token + 1] += indptr[token];
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  workspace->next.assign(out->indptr.begin(), out->indptr.end());
  std::int64_t* next = workspace->next.data();
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t w = begin; w < end; ++w) {
      const Worker<T>& worker = workspace->workers[static_cast<std::size_t>(w)];
      for (std::size_t e = 0; e < static_cast<std::size_t>(worker.size); ++e) {
        const auto to = static_cast<std::size_t>(next[worker.tokens[e]]++);
        out->ids[to] = worker.ids[e];
        out->values[to] = worker.values[e];
      }
    }
  });
}

}  // namespace

template <class T>
bool EncodeLargest(const EncodeInput<T>& input, std::int64_t count, T floor,
                   EncodeWorkspace<T>* workspace, Codes<T>* out, ThreadPool& pool) {
  SAE_CHECK_MSG(count >= 1 && input.subset == nullptr, "%ld of a subset of %ld latents",
                static_cast<long>(count), static_cast<long>(input.subset_size));
  out->tokens = input.tokens;
  out->latents = input.latents;
  out->indptr.assign(static_cast<std::size_t>(input.tokens) + 1, 0);
  if (input.latents == 0 || input.tokens == 0) return true;
  if constexpr (std::is_same_v<T, float>) {
    if (input.screen != nullptr) return CertifiedLargest(input, count, floor, workspace, out, pool);
  }
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const T least = std::nextafter(std::max(floor, T(0)), kInfinity);
  if (workspace->workers.size() < static_cast<std::size_t>(pool.size()))
    workspace->workers.resize(static_cast<std::size_t>(pool.size()));
  const auto room = static_cast<std::size_t>(std::min(2 * count, input.tokens * input.latents) +
                                             kLatentsPerChunk + kFilterSlack);
  for (Worker<T>& worker : workspace->workers) {
    if (worker.values.size() < room) worker.values.resize(room);
    if (worker.ids.size() < room) worker.ids.resize(room);
    if (worker.tokens.size() < room) worker.tokens.resize(room);
    worker.size = 0;
    worker.floor = least;
  }
  std::atomic<bool> nan{false};
  EncodeChunks<T>(input, workspace, pool, [&](const Chunk<T>& chunk) {
    bool found = false;
    Append<T>(chunk, count, workspace->workers[static_cast<std::size_t>(chunk.worker)], &found);
    if (found) nan.store(true, std::memory_order_relaxed);
  });
  Gather(workspace, static_cast<int>(workspace->workers.size()), out, pool);
  return !nan.load(std::memory_order_relaxed);
}

template bool EncodeLargest(const EncodeInput<float>&, std::int64_t, float, EncodeWorkspace<float>*,
                            Codes<float>*, ThreadPool&);
template bool EncodeLargest(const EncodeInput<double>&, std::int64_t, double,
                            EncodeWorkspace<double>*, Codes<double>*, ThreadPool&);

}  // namespace sae::kernels
