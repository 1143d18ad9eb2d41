// The selector of everything above a bound (ReLU, JumpReLU, the gate): each block of tokens appends
// its entries chunk by chunk and remembers how many each token had in each chunk; a stable counting
// sort by token then makes CSR with ascending ids.
#include <algorithm>
#include <array>
#include <atomic>
#include <type_traits>

#include "sae/base/check.h"
#include "sae/kernels/certified.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"

namespace sae::kernels {
namespace {

template <class T>
void Append(const Chunk<T>& chunk, const T* lower, T floor,
            typename EncodeWorkspace<T>::Block& block, bool* nan) {
  if (chunk.first) {
    block.size = 0;
    block.counts.clear();
  }
  for (std::int64_t r = 0; r < chunk.tokens; ++r) {
    const std::int64_t room = block.size + chunk.latents + kFilterSlack;
    if (static_cast<std::int64_t>(block.values.size()) < room) {
      const auto grown = static_cast<std::size_t>(std::max<std::int64_t>(2 * room, 1 << 12));
      block.values.resize(grown);
      block.ids.resize(grown);
    }
    T* values = block.values.data() + block.size;
    std::int32_t* ids = block.ids.data() + block.size;
    const std::int64_t hits =
        FilterAbove(RowOf(chunk, r, chunk.latent),
                    lower == nullptr ? nullptr : lower + chunk.latent, floor, values, ids, nan);
    block.size += hits;
    block.counts.push_back(static_cast<std::int32_t>(hits));
  }
}

/// Tokens of block b: at most kTokensPerBlock.
template <class T>
std::int64_t TokensOf(const Codes<T>& codes, std::int64_t b) {
  return std::min(kTokensPerBlock, codes.tokens - b * kTokensPerBlock);
}

template <class T>
void CountTokens(const std::vector<typename EncodeWorkspace<T>::Block>& blocks, std::int64_t count,
                 Codes<T>* out, ThreadPool& pool) {
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const auto& counts = blocks[static_cast<std::size_t>(b)].counts;
      const std::int64_t tokens = TokensOf(*out, b);
      std::int64_t* total = out->indptr.data() + b * kTokensPerBlock + 1;
      for (std::size_t at = 0; at < counts.size(); at += static_cast<std::size_t>(tokens)) {
        for (std::int64_t r = 0; r < tokens; ++r)
          total[r] += counts[at + static_cast<std::size_t>(r)];
      }
    }
  });
  std::vector<std::int64_t>& indptr = out->indptr;
  for (std::size_t token = 1; token < indptr.size(); ++token) indptr[token] += indptr[token - 1];
}

template <class T>
void Gather(const std::vector<typename EncodeWorkspace<T>::Block>& blocks, std::int64_t count,
            Codes<T>* out, ThreadPool& pool) {
  CountTokens(blocks, count, out, pool);
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    std::array<std::int64_t, static_cast<std::size_t>(kTokensPerBlock)> next{};
    for (std::int64_t b = begin; b < end; ++b) {
      const auto& block = blocks[static_cast<std::size_t>(b)];
      const std::int64_t tokens = TokensOf(*out, b);
      std::copy_n(out->indptr.begin() + b * kTokensPerBlock, tokens, next.begin());
      std::size_t from = 0;
      for (std::size_t at = 0; at < block.counts.size(); ++at) {
        std::int64_t& to = next[at % static_cast<std::size_t>(tokens)];
        for (std::int32_t e = 0; e < block.counts[at]; ++e, ++from, ++to) {
          out->ids[static_cast<std::size_t>(to)] = block.ids[from];
          out->values[static_cast<std::size_t>(to)] = block.values[from];
        }
      }
    }
  });
}

}  // namespace

template <class T>
bool EncodeAbove(const EncodeInput<T>& input, const T* lower, T floor,
                 EncodeWorkspace<T>* workspace, Codes<T>* out, ThreadPool& pool) {
  SAE_CHECK_MSG(input.subset == nullptr, "a subset of %ld latents",
                static_cast<long>(input.subset_size));
  out->tokens = input.tokens;
  out->latents = input.latents;
  out->indptr.assign(static_cast<std::size_t>(input.tokens) + 1, 0);
  if (input.latents == 0) return true;
  if constexpr (std::is_same_v<T, float>) {
    if (input.screen != nullptr) return CertifiedAbove(input, lower, floor, workspace, out, pool);
  }
  const std::int64_t blocks = (input.tokens + kTokensPerBlock - 1) / kTokensPerBlock;
  if (static_cast<std::int64_t>(workspace->blocks.size()) < blocks)
    workspace->blocks.resize(static_cast<std::size_t>(blocks));
  std::atomic<bool> nan{false};
  EncodeChunks<T>(input, workspace, pool, [&](const Chunk<T>& chunk) {
    bool found = false;
    Append(chunk, lower, floor, workspace->blocks[static_cast<std::size_t>(chunk.block)], &found);
    if (found) nan.store(true, std::memory_order_relaxed);
  });
  Gather(workspace->blocks, blocks, out, pool);
  return !nan.load(std::memory_order_relaxed);
}

template bool EncodeAbove(const EncodeInput<float>&, const float*, float, EncodeWorkspace<float>*,
                          Codes<float>*, ThreadPool&);
template bool EncodeAbove(const EncodeInput<double>&, const double*, double,
                          EncodeWorkspace<double>*, Codes<double>*, ThreadPool&);

}  // namespace sae::kernels
