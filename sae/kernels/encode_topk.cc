// The top-k selector: candidates above a running threshold are appended; a full list is cut back to
// its k first, whose last value is the new threshold. Latents arrive in ascending order, so a later
// value equal to the threshold loses its tie and `>` is exact.
#include <algorithm>
#include <atomic>
#include <limits>

#include "sae/base/check.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {
namespace {

template <class T>
class TopKSelector {
 public:
  using Worker = typename EncodeWorkspace<T>::Worker;

  TopKSelector(std::int64_t first_latent, std::int64_t offered, TopK<T>* out)
      : first_latent_(first_latent),
        k_(out->width),
        room_(std::min(offered, 2 * out->width + 64)),
        out_(out) {}

  void Take(const Chunk<T>& chunk, Worker& worker) {
    if (chunk.latent == 0) Begin(worker);
    bool nan = false;
    for (std::int64_t r = 0; r < chunk.tokens; ++r) TakeRow(chunk, r, worker, &nan);
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
    worker.candidates.resize(kTokens * static_cast<std::size_t>(room_));
    worker.counts.assign(kTokens, 0);
    worker.thresholds.assign(kTokens, -std::numeric_limits<T>::infinity());
    worker.hits.resize(static_cast<std::size_t>(kLatentsPerChunk));
  }

  void TakeRow(const Chunk<T>& chunk, std::int64_t r, Worker& worker, bool* nan) {
    const T* z = chunk.z + r * chunk.ld;
    T& threshold = worker.thresholds[static_cast<std::size_t>(r)];
    std::int64_t& count = worker.counts[static_cast<std::size_t>(r)];
    Scored<T>* list = worker.candidates.data() + r * room_;
    const std::int64_t hits = CollectAbove(chunk.latents, z, threshold, worker.hits.data(), nan);
    for (std::int64_t h = 0; h < hits; ++h) {
      const std::int32_t j = worker.hits[static_cast<std::size_t>(h)];
      if (!(z[j] > threshold)) continue;  // it rose since
      if (count == room_) {
        KeepTop(list, count, k_);
        count = k_;
        threshold = list[k_ - 1].value;
        if (!(z[j] > threshold)) continue;
      }
      const std::int64_t latent =
          chunk.latent_ids == nullptr ? chunk.latent + j : chunk.latent_ids[j];
      list[count++] = {z[j], static_cast<std::int32_t>(first_latent_ + latent)};
    }
  }

  /// Sorted into `out_`; false where fewer than k values are comparable.
  bool Finish(std::int64_t token, std::int64_t r, Worker& worker) {
    const std::int64_t count = worker.counts[static_cast<std::size_t>(r)];
    Scored<T>* list = worker.candidates.data() + r * room_;
    const std::int64_t found = std::min(count, k_);
    if (found > 0) KeepTop(list, count, found);
    std::sort(list, list + found, Before<T>);
    T* values = out_->values.data() + token * k_;
    std::int32_t* ids = out_->ids.data() + token * k_;
    for (std::int64_t j = 0; j < k_; ++j) {
      values[j] = j < found ? list[j].value : -std::numeric_limits<T>::infinity();
      ids[j] = j < found ? list[j].id : static_cast<std::int32_t>(first_latent_);
    }
    return found == k_;
  }

  const std::int64_t first_latent_;
  const std::int64_t k_;
  const std::int64_t room_;
  TopK<T>* const out_;
  std::atomic<bool> nan_{false};
};

}  // namespace

template <class T>
bool EncodeTopK(const EncodeInput<T>& input, std::int64_t k, EncodeWorkspace<T>* workspace,
                TopK<T>* out, ThreadPool& pool) {
  SAE_CHECK_MSG(k >= 1, "k = %ld", static_cast<long>(k));
  const std::int64_t offered = input.subset == nullptr ? input.latents : input.subset_size;
  out->tokens = input.tokens;
  out->width = std::min(k, offered);
  out->values.resize(static_cast<std::size_t>(out->tokens * out->width));
  out->ids.resize(static_cast<std::size_t>(out->tokens * out->width));
  if (out->width == 0) return true;
  TopKSelector<T> selector(input.first_latent, offered, out);
  EncodeChunks<T>(input, workspace, pool, [&](const Chunk<T>& chunk) {
    selector.Take(chunk, workspace->workers[static_cast<std::size_t>(chunk.worker)]);
  });
  return selector.ok();
}

template bool EncodeTopK(const EncodeInput<float>&, std::int64_t, EncodeWorkspace<float>*,
                         TopK<float>*, ThreadPool&);
template bool EncodeTopK(const EncodeInput<double>&, std::int64_t, EncodeWorkspace<double>*,
                         TopK<double>*, ThreadPool&);

}  // namespace sae::kernels
