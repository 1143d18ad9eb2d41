#include "sae/kernels/encode.h"

#include <algorithm>
#include <chrono>
#include <type_traits>

#include "sae/base/check.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/panels.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels {
namespace {

static_assert(kLatentsPerChunk % kPanel == 0);

/// Latents [first, first + size) of the subset, or of all, ready for the product.
template <class T>
struct Latents {
  std::int64_t first = 0;
  std::int64_t size = 0;
  const T* rows = nullptr;    ///< as they are; null where packed
  const T* panels = nullptr;  ///< float
};

/// Encoder rows in place, or gathered.
template <class T>
const T* Rows(const EncodeInput<T>& input, std::int64_t first, std::int64_t size,
              AlignedVector<T>& copy) {
  if (input.subset == nullptr) return input.w + first * input.d;
  copy.resize(static_cast<std::size_t>(kLatentsPerChunk * input.d));
  for (std::int64_t j = 0; j < size; ++j) {
    const T* row = input.w + input.subset[first + j] * input.d;
    std::copy(row, row + input.d, copy.begin() + j * input.d);
  }
  return copy.data();
}

template <class T>
Latents<T> Prepare(const EncodeInput<T>& input, std::int64_t first, std::int64_t size,
                   typename EncodeWorkspace<T>::Worker& buffers) {
  buffers.c.assign(static_cast<std::size_t>(kLatentsPerChunk), T(0));
  for (std::int64_t j = 0; j < size; ++j) {
    buffers.c[static_cast<std::size_t>(j)] =
        input.c[input.subset == nullptr ? first + j : input.subset[first + j]];
  }
  if constexpr (std::is_same_v<T, float>) {
    if (input.screen == nullptr) {
      buffers.w.resize(static_cast<std::size_t>(kLatentsPerChunk * input.d));
      if (input.subset == nullptr) {
        PackPanels(input.w + first * input.d, nullptr, size, input.d, buffers.w.data());
      } else {
        PackPanels(input.w, input.subset + first, size, input.d, buffers.w.data());
      }
      return {first, size, nullptr, buffers.w.data()};
    }
  }
  return {first, size, Rows(input, first, size, buffers.w), nullptr};
}

/// One chunk of products; with a screen, of pre-activations by the reference.
template <class T>
void Multiply(const EncodeInput<T>& input, const T* x, std::int64_t tokens, const Latents<T>& w,
              const T* c, T* z) {
  if constexpr (std::is_same_v<T, float>) {
    if (w.panels != nullptr) {
      MultiplyPanels(x, tokens, input.d, w.panels, w.size, z, kLatentsPerChunk);
      return;
    }
    ReferenceTile(tokens, w.size, input.d, x, w.rows, z, kLatentsPerChunk);
    for (std::int64_t r = 0; r < tokens; ++r)
      ReferenceZ(w.size, input.scale, c, z + r * kLatentsPerChunk);
  } else {
    GemmTile(tokens, w.size, input.d, x, input.d, w.rows, input.d, z, kLatentsPerChunk);
  }
}

/// All chunks of the blocks [begin, end).
template <class T>
void EncodeGroup(const EncodeInput<T>& input, std::int64_t count, std::int64_t begin,
                 std::int64_t end, int worker, typename EncodeWorkspace<T>::Worker& buffers,
                 absl::FunctionRef<void(const Chunk<T>&)> sink) {
  buffers.z.resize(static_cast<std::size_t>(kTokensPerBlock * kLatentsPerChunk));
  buffers.none.assign(static_cast<std::size_t>(kLatentsPerChunk), T(-0.0));
  for (std::int64_t first = 0; first < count; first += kLatentsPerChunk) {
    const Latents<T> latents =
        Prepare(input, first, std::min(kLatentsPerChunk, count - first), buffers);
    for (std::int64_t block = begin; block < end; ++block) {
      Chunk<T> chunk;
      chunk.block = block;
      chunk.slot = block - begin;
      chunk.token = block * kTokensPerBlock;
      chunk.tokens = std::min(kTokensPerBlock, input.tokens - chunk.token);
      const auto start = std::chrono::steady_clock::now();
      Multiply(input, input.x + chunk.token * input.d, chunk.tokens, latents, buffers.c.data(),
               buffers.z.data());
      buffers.product_ms +=
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
              .count();
      chunk.latent_ids = input.subset == nullptr ? nullptr : input.subset + first;
      chunk.latent = first;
      chunk.latents = latents.size;
      chunk.z = buffers.z.data();
      chunk.ld = kLatentsPerChunk;
      chunk.c = input.screen == nullptr ? buffers.c.data() : buffers.none.data();
      chunk.scale = input.screen == nullptr ? input.scale : T(1);
      chunk.first = first == 0;
      chunk.last = first + latents.size == count;
      chunk.worker = worker;
      sink(chunk);
    }
  }
}

}  // namespace

template <class T>
void EncodeChunks(const EncodeInput<T>& input, EncodeWorkspace<T>* workspace, ThreadPool& pool,
                  absl::FunctionRef<void(const Chunk<T>&)> sink) {
  SAE_CHECK_MSG(input.tokens >= 0 && input.d > 0 && input.latents >= 0 && input.subset_size >= 0,
                "encode %ld tokens x %ld, %ld latents", static_cast<long>(input.tokens),
                static_cast<long>(input.d), static_cast<long>(input.latents));
  const std::int64_t count = input.subset == nullptr ? input.latents : input.subset_size;
  workspace->workers.resize(
      std::max(workspace->workers.size(), static_cast<std::size_t>(pool.size())));
  const std::int64_t blocks = (input.tokens + kTokensPerBlock - 1) / kTokensPerBlock;
  const auto group = [&](std::int64_t begin, std::int64_t end, int worker) {
    EncodeGroup(input, count, begin, end, worker,
                workspace->workers[static_cast<std::size_t>(worker)], sink);
  };
  RunBlocks(input.subset == nullptr ? input.meeting : nullptr, {blocks, kBlocksPerGroup, group}, pool);
}

template <class T>
void FoldBias(const T* w, const T* b_enc, const T* b_dec, std::int64_t latents, std::int64_t d,
              T* c, ThreadPool& pool) {
  pool.ParallelFor(latents, [=](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double shift = b_dec == nullptr ? 0 : DotDouble(d, w + i * d, b_dec);
      const double bias = b_enc == nullptr ? 0 : static_cast<double>(b_enc[i]);
      c[i] = static_cast<T>(bias - shift);
    }
  });
}

template void EncodeChunks(const EncodeInput<float>&, EncodeWorkspace<float>*, ThreadPool&,
                           absl::FunctionRef<void(const Chunk<float>&)>);
template void EncodeChunks(const EncodeInput<double>&, EncodeWorkspace<double>*, ThreadPool&,
                           absl::FunctionRef<void(const Chunk<double>&)>);
template void FoldBias(const float*, const float*, const float*, std::int64_t, std::int64_t, float*,
                       ThreadPool&);
template void FoldBias(const double*, const double*, const double*, std::int64_t, std::int64_t,
                       double*, ThreadPool&);

}  // namespace sae::kernels
