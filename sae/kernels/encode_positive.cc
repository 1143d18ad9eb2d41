// The ReLU selector: each block of tokens appends its positive entries chunk by chunk; a stable
// counting sort by token then makes CSR with ascending ids.
#include <algorithm>
#include <array>
#include <atomic>

#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels {
namespace {

template <class T>
void Append(const Chunk<T>& chunk, std::vector<std::int32_t>& hits,
            typename EncodeWorkspace<T>::Block& block, bool* nan) {
  hits.resize(static_cast<std::size_t>(kLatentsPerChunk));
  if (chunk.latent == 0) {
    block.ids.clear();
    block.tokens.clear();
    block.values.clear();
  }
  for (std::int64_t r = 0; r < chunk.tokens; ++r) {
    const T* z = chunk.z + r * chunk.ld;
    const std::int64_t count = CollectAbove(chunk.latents, z, T(0), hits.data(), nan);
    for (std::int64_t h = 0; h < count; ++h) {
      const std::int32_t j = hits[static_cast<std::size_t>(h)];
      const std::int64_t latent =
          chunk.latent_ids == nullptr ? chunk.latent + j : chunk.latent_ids[j];
      block.ids.push_back(static_cast<std::int32_t>(latent));
      block.tokens.push_back(static_cast<std::int32_t>(chunk.token + r));
      block.values.push_back(z[j]);
    }
  }
}

template <class T>
void Gather(const std::vector<typename EncodeWorkspace<T>::Block>& blocks, std::int64_t count,
            Codes<T>* out, ThreadPool& pool) {
  std::vector<std::int64_t>& indptr = out->indptr;
  for (std::int64_t b = 0; b < count; ++b) {
    for (const std::int32_t token : blocks[static_cast<std::size_t>(b)].tokens) {
      ++indptr[static_cast<std::size_t>(token) + 1];
    }
  }
  for (std::size_t token = 1; token < indptr.size(); ++token) indptr[token] += indptr[token - 1];
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    std::array<std::int64_t, static_cast<std::size_t>(kTokensPerChunk)> next{};
    for (std::int64_t b = begin; b < end; ++b) {
      const auto& block = blocks[static_cast<std::size_t>(b)];
      const std::int64_t first = b * kTokensPerChunk;
      const std::int64_t tokens = std::min(kTokensPerChunk, out->tokens - first);
      std::copy_n(indptr.begin() + first, tokens, next.begin());
      for (std::size_t e = 0; e < block.ids.size(); ++e) {
        const auto place =
            static_cast<std::size_t>(next[static_cast<std::size_t>(block.tokens[e] - first)]++);
        out->ids[place] = block.ids[e];
        out->values[place] = block.values[e];
      }
    }
  });
}

}  // namespace

template <class T>
bool EncodePositive(const EncodeInput<T>& input, EncodeWorkspace<T>* workspace, Codes<T>* out,
                    ThreadPool& pool) {
  out->Clear(input.tokens, input.latents);
  const std::int64_t offered = input.subset == nullptr ? input.latents : input.subset_size;
  if (offered == 0) return true;
  const std::int64_t blocks = (input.tokens + kTokensPerChunk - 1) / kTokensPerChunk;
  workspace->blocks.resize(std::max(workspace->blocks.size(), static_cast<std::size_t>(blocks)));
  std::atomic<bool> nan{false};
  EncodeChunks<T>(input, workspace, pool, [&](const Chunk<T>& chunk) {
    bool found = false;
    Append(chunk, workspace->workers[static_cast<std::size_t>(chunk.worker)].hits,
           workspace->blocks[static_cast<std::size_t>(chunk.block)], &found);
    if (found) nan.store(true, std::memory_order_relaxed);
  });
  Gather(workspace->blocks, blocks, out, pool);
  return !nan.load(std::memory_order_relaxed);
}

template bool EncodePositive(const EncodeInput<float>&, EncodeWorkspace<float>*, Codes<float>*,
                             ThreadPool&);
template bool EncodePositive(const EncodeInput<double>&, EncodeWorkspace<double>*, Codes<double>*,
                             ThreadPool&);

}  // namespace sae::kernels
