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
class TopKSelector {
 public:
  using Worker = typename EncodeWorkspace<T>::Worker;

  TopKSelector(std::int64_t first_latent, std::int64_t offered, TopK<T>* out)
      : first_latent_(first_latent),
        k_(out->width),
        full_(k_ + std::max<std::int64_t>(k_, 96)),
        room_(std::min(offered, full_ + kLatentsPerChunk) + kFilterSlack),
        out_(out) {}

  void Take(const Chunk<T>& chunk, Worker& worker) {
    if (chunk.first) Begin(worker);
    bool nan = false;
    for (std::int64_t r = 0; r < chunk.tokens; ++r) {
      Prefetch(std::min(r + 4, chunk.tokens - 1), worker);
      TakeRow(chunk, r, worker, &nan);
    }
    if (chunk.last) {
      for (std::int64_t r = 0; r < chunk.tokens; ++r)
        nan = !Finish(chunk.token + r, r, worker) || nan;
    }
    if (nan) nan_.store(true, std::memory_order_relaxed);
  }

  bool ok() const { return !nan_.load(std::memory_order_relaxed); }

 private:
  void Begin(Worker& worker) {
    constexpr auto kTokens = static_cast<std::size_t>(kTokensPerChunk);
    const std::size_t entries = kTokens * static_cast<std::size_t>(room_);
    if (worker.values.size() < entries) worker.values.resize(entries);
    if (worker.ids.size() < entries) worker.ids.resize(entries);
    constexpr auto kRow = static_cast<std::size_t>(kLatentsPerChunk + kFilterSlack);
    worker.row_values.resize(kRow);
    worker.row_ids.resize(kRow);
    worker.counts.assign(kTokens, 0);
    worker.floors.assign(kTokens, -std::numeric_limits<T>::infinity());
  }

  /// The end of a token's list, which the product has pushed out of the near caches.
  void Prefetch(std::int64_t r, const Worker& worker) const {
    const std::int64_t end = r * room_ + worker.counts[static_cast<std::size_t>(r)];
    __builtin_prefetch(worker.values.data() + end, 1);
    __builtin_prefetch(worker.ids.data() + end, 1);
  }

  void TakeRow(const Chunk<T>& chunk, std::int64_t r, Worker& worker, bool* nan) {
    T& floor = worker.floors[static_cast<std::size_t>(r)];
    std::int64_t& count = worker.counts[static_cast<std::size_t>(r)];
    T* values = worker.values.data() + r * room_;
    std::int32_t* ids = worker.ids.data() + r * room_;
    // The first chunk has no floor yet: it is cut in a buffer that stays in the nearest cache.
    T* to = chunk.first ? worker.row_values.data() : values + count;
    std::int32_t* to_ids = chunk.first ? worker.row_ids.data() : ids + count;
    const bool listed = chunk.latent_ids != nullptr;
    std::int64_t hits = FilterFrom(RowOf(chunk, r, listed ? 0 : first_latent_ + chunk.latent),
                                   floor, to, to_ids, nan);
    if (listed) {
      for (std::int64_t h = 0; h < hits; ++h)
        to_ids[h] = static_cast<std::int32_t>(first_latent_ + chunk.latent_ids[to_ids[h]]);
    }
    if (chunk.first) {
      if (hits > full_) hits = CutToTop(to, to_ids, hits, k_, &floor);
      std::copy(to, to + hits, values);
      std::copy(to_ids, to_ids + hits, ids);
    }
    count += hits;
    if (count > full_) count = CutToTop(values, ids, count, k_, &floor);
  }

  /// Into `out_`, in its order; false where fewer than k values are comparable.
  bool Finish(std::int64_t token, std::int64_t r, Worker& worker) {
    std::int64_t count = worker.counts[static_cast<std::size_t>(r)];
    T* values = worker.values.data() + r * room_;
    std::int32_t* ids = worker.ids.data() + r * room_;
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

  void Sort(const T* values, const std::int32_t* ids, std::int64_t count, Worker& worker,
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
  const std::int64_t full_;  ///< a longer list is cut
  const std::int64_t room_;
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
  TopKSelector<T> selector(input.first_latent, offered, out);
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
