#include "sae/kernels/encode.h"

#include <algorithm>
#include <type_traits>

#include "sae/base/check.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/screen_dot.h"

namespace sae::kernels {
namespace {

// float chunks always have the full shape; double has no shape dependence and skips the padding.
template <class T>
constexpr bool kPadded = std::is_same_v<T, float>;

bool Aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kAlignment == 0; }

/// Rows [first, first + rows) of x, as kTokensPerChunk rows.
template <class T>
const T* TokenRows(const EncodeInput<T>& input, std::int64_t first, std::int64_t rows,
                   AlignedVector<T>& copy) {
  const T* source = input.x + first * input.d;
  if (!kPadded<T> || (rows == kTokensPerChunk && Aligned(source))) return source;
  copy.assign(static_cast<std::size_t>(kTokensPerChunk * input.d), T(0));
  std::copy(source, source + rows * input.d, copy.begin());
  return copy.data();
}

/// Encoder rows [first, first + rows) of the subset, or of all latents, as kLatentsPerChunk rows.
template <class T>
const T* LatentRows(const EncodeInput<T>& input, std::int64_t first, std::int64_t rows,
                    AlignedVector<T>& copy) {
  const T* source = input.w + first * input.d;
  if (input.subset == nullptr && (!kPadded<T> || (rows == kLatentsPerChunk && Aligned(source))))
    return source;
  copy.resize(static_cast<std::size_t>(kLatentsPerChunk * input.d));
  for (std::int64_t j = 0; j < rows; ++j) {
    const T* row = input.subset == nullptr ? source + j * input.d
                                           : input.w + input.subset[first + j] * input.d;
    std::copy(row, row + input.d, copy.begin() + j * input.d);
  }
  std::fill(copy.begin() + rows * input.d, copy.end(), T(0));
  return copy.data();
}

template <class T>
void Biases(const EncodeInput<T>& input, std::int64_t first, std::int64_t rows,
            AlignedVector<T>& out) {
  out.assign(static_cast<std::size_t>(kLatentsPerChunk), T(0));
  for (std::int64_t j = 0; j < rows; ++j) {
    out[static_cast<std::size_t>(j)] =
        input.c[input.subset == nullptr ? first + j : input.subset[first + j]];
  }
}

/// One chunk of products; with a screen, of pre-activations by the reference.
template <class T>
void Multiply(const EncodeInput<T>& input, std::int64_t tokens, const T* x, std::int64_t latents,
              const T* w, AlignedVector<T>& c, T* z) {
  if constexpr (std::is_same_v<T, float>) {
    if (input.screen != nullptr) {
      ReferenceTile(tokens, latents, input.d, x, w, z, kLatentsPerChunk);
      for (std::int64_t r = 0; r < tokens; ++r) {
        ReferenceZ(latents, input.scale, c.data(), z + r * kLatentsPerChunk);
      }
      std::fill(c.begin(), c.end(), -0.0F);
      return;
    }
  }
  GemmTile(kPadded<T> ? kTokensPerChunk : tokens, kPadded<T> ? kLatentsPerChunk : latents, input.d,
           x, input.d, w, input.d, z, kLatentsPerChunk);
}

template <class T>
void EncodeBlock(const EncodeInput<T>& input, std::int64_t count, std::int64_t block, int worker,
                 typename EncodeWorkspace<T>::Worker& buffers,
                 absl::FunctionRef<void(const Chunk<T>&)> sink) {
  const std::int64_t token = block * kTokensPerChunk;
  const std::int64_t tokens = std::min(kTokensPerChunk, input.tokens - token);
  const T* x = TokenRows(input, token, tokens, buffers.x);
  buffers.z.resize(static_cast<std::size_t>(kTokensPerChunk * kLatentsPerChunk));
  for (std::int64_t first = 0; first < count; first += kLatentsPerChunk) {
    const std::int64_t latents = std::min(kLatentsPerChunk, count - first);
    const T* w = LatentRows(input, first, latents, buffers.w);
    Biases(input, first, latents, buffers.c);
    Multiply(input, tokens, x, latents, w, buffers.c, buffers.z.data());
    Chunk<T> chunk;
    chunk.block = block;
    chunk.token = token;
    chunk.tokens = tokens;
    chunk.latent_ids = input.subset == nullptr ? nullptr : input.subset + first;
    chunk.latent = first;
    chunk.latents = latents;
    chunk.z = buffers.z.data();
    chunk.ld = kLatentsPerChunk;
    chunk.c = buffers.c.data();
    chunk.scale = input.screen == nullptr ? input.scale : T(1);
    chunk.first = first == 0;
    chunk.last = first + latents == count;
    chunk.worker = worker;
    sink(chunk);
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
  const std::int64_t blocks = (input.tokens + kTokensPerChunk - 1) / kTokensPerChunk;
  pool.ParallelFor(blocks, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t block = begin; block < end; ++block) {
      EncodeBlock(input, count, block, worker, workspace->workers[static_cast<std::size_t>(worker)],
                  sink);
    }
  });
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
