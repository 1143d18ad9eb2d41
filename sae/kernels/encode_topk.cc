// The top-k selector: entries that reach a running floor are appended to the token's list; a full
// list is cut back to its k first, which raises the floor. Latents arrive in ascending order and a
// cut keeps the order, so a later value equal to the k-th loses its tie and the list stays sorted
// by id.
#include <algorithm>
#include <atomic>
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
class TopKSelector {
 public:
  TopKSelector(const EncodeInput<T>& input, std::int64_t offered, TopK<T>* out)
      : first_latent_(input.first_latent),
        k_(out->width),
        most_(k_ + k_ / 8 + 4),
        full_(std::min(offered, std::max<std::int64_t>(2 * most_, k_ + 160))),
        room_(full_ + kFilterSlack),
        rows_(std::min(input.tokens, kBlocksPerGroup * kTokensPerBlock)),
        out_(out) {}

  /// Room for a group's lists; before any chunk.
  void Size(Worker<T>& worker) const {
    const auto entries = static_cast<std::size_t>(rows_ * room_);
    const auto row = static_cast<std::size_t>(kLatentsPerChunk + kFilterSlack);
    const auto grow = [](auto& v, std::size_t size) {
      if (v.size() < size) v.resize(size);
    };
    grow(worker.values, entries);
    grow(worker.ids, entries);
    grow(worker.row_values, row);
    grow(worker.row_ids, row);
    grow(worker.counts, static_cast<std::size_t>(rows_));
    grow(worker.floors, static_cast<std::size_t>(rows_));
  }

  void Take(const Chunk<T>& chunk, Worker<T>& worker) {
    const std::int64_t first = chunk.slot * kTokensPerBlock;
    bool nan = false;
    for (std::int64_t r = 0; r < chunk.tokens; ++r) {
      Prefetch(first + std::min(r + 4, chunk.tokens - 1), worker);
      if (chunk.first) Begin(first + r, worker);
      TakeRow(chunk, r, first + r, worker, &nan);
    }
    if (chunk.last) {
      for (std::int64_t r = 0; r < chunk.tokens; ++r)
        nan = !Finish(chunk.token + r, first + r, worker) || nan;
    }
    if (nan) nan_.store(true, std::memory_order_relaxed);
  }

  bool ok() const { return !nan_.load(std::memory_order_relaxed); }

 private:
  void Begin(std::int64_t list, Worker<T>& worker) const {
    worker.counts[static_cast<std::size_t>(list)] = 0;
    worker.floors[static_cast<std::size_t>(list)] = -std::numeric_limits<T>::infinity();
  }

  /// The end of a token's list, which the product has pushed out of the near caches.
  void Prefetch(std::int64_t list, const Worker<T>& worker) const {
    const std::int64_t end = list * room_ + worker.counts[static_cast<std::size_t>(list)];
    __builtin_prefetch(worker.values.data() + end, 1);
    __builtin_prefetch(worker.ids.data() + end, 1);
  }

  /// Cuts both lists to about their k first where one list cannot hold both.
  void MakeRoom(T* values, std::int32_t* ids, Worker<T>& worker, std::int64_t* count,
                std::int64_t* hits, T* floor) const {
    T raised = *floor;
    if (*count > most_) *count = CutToTop(values, ids, *count, k_, most_, floor);
    if (*hits > most_)
      *hits = CutToTop(worker.row_values.data(), worker.row_ids.data(), *hits, k_, most_, &raised);
    *floor = std::max(*floor, raised);
  }

  /// Survivors go through a buffer that stays in the nearest cache.
  void TakeRow(const Chunk<T>& chunk, std::int64_t r, std::int64_t list, Worker<T>& worker,
               bool* nan) const {
    T& floor = worker.floors[static_cast<std::size_t>(list)];
    std::int64_t& count = worker.counts[static_cast<std::size_t>(list)];
    T* values = worker.values.data() + list * room_;
    std::int32_t* ids = worker.ids.data() + list * room_;
    const T* row_values = worker.row_values.data();
    std::int32_t* row_ids = worker.row_ids.data();
    const bool listed = chunk.latent_ids != nullptr;
    std::int64_t hits = FilterFrom(RowOf(chunk, r, listed ? 0 : first_latent_ + chunk.latent),
                                   floor, worker.row_values.data(), row_ids, nan);
    if (listed) {
      for (std::int64_t h = 0; h < hits; ++h)
        row_ids[h] = static_cast<std::int32_t>(first_latent_ + chunk.latent_ids[row_ids[h]]);
    }
    if (count + hits > full_) MakeRoom(values, ids, worker, &count, &hits, &floor);
    constexpr std::int64_t kStep = 16;  // whole vectors: there is slack behind both
    for (std::int64_t h = 0; h < hits; h += kStep) {
      std::copy_n(row_values + h, kStep, values + count + h);
      std::copy_n(row_ids + h, kStep, ids + count + h);
    }
    count += hits;
  }

  /// Into `out_`, in its order; false where fewer than k values are comparable.
  bool Finish(std::int64_t token, std::int64_t list, Worker<T>& worker) {
    std::int64_t count = worker.counts[static_cast<std::size_t>(list)];
    T* values = worker.values.data() + list * room_;
    std::int32_t* ids = worker.ids.data() + list * room_;
    if (count > k_) {
      T floor;
      count = CutToTop(values, ids, count, k_, &floor);
    }
    T* to_values = out_->values.data() + token * k_;
    std::int32_t* to_ids = out_->ids.data() + token * k_;
    if (out_->order == TopKOrder::kById) {
      std::copy(values, values + count, to_values);
      std::copy(ids, ids + count, to_ids);
    } else if (count <= kRankSort) {
      RankByValue(values, ids, count, to_values, to_ids);
    } else {
      Sort(values, ids, count, worker, to_values, to_ids);
    }
    std::fill(to_values + count, to_values + k_, -std::numeric_limits<T>::infinity());
    std::fill(to_ids + count, to_ids + k_, static_cast<std::int32_t>(first_latent_));
    return count == k_;
  }

  void Sort(const T* values, const std::int32_t* ids, std::int64_t count, Worker<T>& worker,
            T* to_values, std::int32_t* to_ids) {
    worker.order.resize(static_cast<std::size_t>(count));
    for (std::int64_t j = 0; j < count; ++j)
      worker.order[static_cast<std::size_t>(j)] = {values[j], ids[j]};
    std::sort(worker.order.begin(), worker.order.end(), Before<T>);
    for (std::int64_t j = 0; j < count; ++j) {
      to_values[j] = worker.order[static_cast<std::size_t>(j)].value;
      to_ids[j] = worker.order[static_cast<std::size_t>(j)].id;
    }
  }

  const std::int64_t first_latent_;
  const std::int64_t k_;
  const std::int64_t most_;  ///< entries that a cut may leave
  const std::int64_t full_;  ///< a longer list is cut
  const std::int64_t room_;
  const std::int64_t rows_;  ///< lists of a worker
  TopK<T>* const out_;
  std::atomic<bool> nan_{false};
};

}  // namespace

template <class T>
bool EncodeTopK(const EncodeInput<T>& input, std::int64_t k, EncodeWorkspace<T>* workspace,
                TopK<T>* out, ThreadPool& pool, TopKOrder order) {
  SAE_CHECK_MSG(k >= 1, "k = %ld", static_cast<long>(k));
  const std::int64_t offered = input.subset == nullptr ? input.latents : input.subset_size;
  out->tokens = input.tokens;
  out->width = std::min(k, offered);
  out->order = order;
  out->values.resize(static_cast<std::size_t>(out->tokens * out->width));
  out->ids.resize(static_cast<std::size_t>(out->tokens * out->width));
  if (out->width == 0) return true;
  if constexpr (std::is_same_v<T, float>) {
    if (input.screen != nullptr && input.subset == nullptr)
      return CertifiedTopK(input, workspace, out, pool);
  }
  TopKSelector<T> selector(input, offered, out);
  if (workspace->workers.size() < static_cast<std::size_t>(pool.size()))
    workspace->workers.resize(static_cast<std::size_t>(pool.size()));
  for (Worker<T>& worker : workspace->workers) selector.Size(worker);
  EncodeChunks<T>(input, workspace, pool, [&](const Chunk<T>& chunk) {
    selector.Take(chunk, workspace->workers[static_cast<std::size_t>(chunk.worker)]);
  });
  return selector.ok();
}

template bool EncodeTopK(const EncodeInput<float>&, std::int64_t, EncodeWorkspace<float>*,
                         TopK<float>*, ThreadPool&, TopKOrder);
template bool EncodeTopK(const EncodeInput<double>&, std::int64_t, EncodeWorkspace<double>*,
                         TopK<double>*, ThreadPool&, TopKOrder);

}  // namespace sae::kernels
