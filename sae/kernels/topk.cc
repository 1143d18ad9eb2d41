#include "sae/kernels/topk.h"

#include <algorithm>

#include "sae/base/check.h"

namespace sae::kernels {
namespace {

// The shard whose next candidate comes first; -1 when all lists are at their end.
template <class T>
int NextShard(const std::vector<Candidates<T>>& shards, const std::vector<std::int64_t>& heads,
              std::int64_t token) {
  int best = -1;
  Scored<T> first{};
  for (std::size_t s = 0; s < shards.size(); ++s) {
    if (heads[s] == shards[s].width) continue;
    const std::int64_t at = token * shards[s].width + heads[s];
    const Scored<T> head{shards[s].values[at], shards[s].ids[at]};
    if (best < 0 || Before(head, first)) {
      best = static_cast<int>(s);
      first = head;
    }
  }
  return best;
}

}  // namespace

template <class T>
void CountWinners(const std::vector<Candidates<T>>& shards, std::int64_t tokens, std::int64_t k,
                  int own, std::int32_t* counts, ThreadPool& pool) {
  SAE_CHECK_MSG(own >= 0 && static_cast<std::size_t>(own) < shards.size(), "shard %d of %zu", own,
                shards.size());
  pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<std::int64_t> heads(shards.size());
    for (std::int64_t token = begin; token < end; ++token) {
      std::fill(heads.begin(), heads.end(), 0);
      for (std::int64_t taken = 0; taken < k; ++taken) {
        const int shard = NextShard(shards, heads, token);
        if (shard < 0) break;
        ++heads[static_cast<std::size_t>(shard)];
      }
      counts[token] = static_cast<std::int32_t>(heads[static_cast<std::size_t>(own)]);
    }
  });
}

template void CountWinners(const std::vector<Candidates<float>>&, std::int64_t, std::int64_t, int,
                           std::int32_t*, ThreadPool&);
template void CountWinners(const std::vector<Candidates<double>>&, std::int64_t, std::int64_t, int,
                           std::int32_t*, ThreadPool&);

}  // namespace sae::kernels
