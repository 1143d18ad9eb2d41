// DecodeBlocks: one block a token; a thread owns every blockDim.x-th column of all parts, so that
// the chains of its elements need no barrier. The parts of a token, 16 rows, stay in the caches
// while its entries are added. BlockRowSums: a thread owns a column of one run of a block's list.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/virtual_blocks.h"

namespace sae::kernels::cuda {
namespace {

using device::AddBlocksParams;
using device::AddBlockSumsParams;
using device::AddSquaresParams;
using device::BlockRowSumsParams;
using device::BlockSumsParams;
using device::DecodeBlocksParams;

constexpr int kThreads = 256;
constexpr int kAhead = 8;  // members that are asked for before the first is added

unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
SAELOOM_DEVICE std::int64_t ThreadOfGrid() {
  return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}
/// Of a block whose threads own the columns of rows.
int ThreadsOf(std::int64_t columns) {
  return columns < kThreads ? static_cast<int>((columns + 31) / 32 * 32) : kThreads;
}

template <class Weights>
SAELOOM_KERNEL void DecodeBlocksKernel(DecodeBlocksParams p, Weights weights) {
  const std::int64_t token = p.first_token + blockIdx.x;
  const std::int64_t size = p.tokens * p.d;
  const std::int32_t begin = p.codes.indptr[token];
  const std::int32_t end = p.codes.indptr[token + 1];
  for (std::int64_t j = threadIdx.x; j < p.d; j += blockDim.x) {
    float* const out = p.parts + blockIdx.x * p.d + j;
    for (int v = 0; v < p.blocks.count; ++v) out[v * size] = 0;
    for (std::int32_t e = begin; e < end; ++e) {
      const std::int32_t id = p.codes.ids[e];
      if (id < p.first_latent || id >= p.last_latent) continue;
      const float a = p.row_scale == nullptr ? p.f[e] : p.f[e] * p.row_scale[id];
      float* const part = out + p.blocks.block[id] * size;
      *part = __fmaf_rn(a, weights(id * p.d + j), *part);
    }
  }
}

SAELOOM_KERNEL void AddBlocksKernel(AddBlocksParams p) {
  const std::int64_t at = ThreadOfGrid();
  const std::int64_t size = p.tokens * p.d;
  if (at >= size) return;
  float sum = p.bias == nullptr ? 0.0F : p.bias[at % p.d];
  for (int v = 0; v < p.count; ++v) sum += p.parts[v * size + at];
  p.out[at] = sum;
}

/// scratch[blockIdx.y, j]: of run blockIdx.y % parts of block blockIdx.y / parts.
template <class Weights>
SAELOOM_KERNEL void RowRunsKernel(BlockRowSumsParams p, Weights weights, std::int64_t parts) {
  const std::int64_t j = ThreadOfGrid();
  if (j >= p.d) return;
  const std::int64_t n = p.blocks.latents;
  const std::int64_t block = blockIdx.y / parts;
  const std::int64_t part = blockIdx.y % parts;
  const std::int32_t* const members = p.blocks.members + block * n;
  const std::int64_t last = n * (part + 1) / parts;
  double sum = 0;
  for (std::int64_t i = n * part / parts; i < last; i += kAhead) {
    std::int64_t rows[kAhead];
    float factors[kAhead];
    float values[kAhead];
    for (int r = 0; r < kAhead; ++r) rows[r] = i + r < last ? members[i + r] : -1;
    for (int r = 0; r < kAhead; ++r) factors[r] = rows[r] < 0 ? 0.0F : p.weights[rows[r]];
    for (int r = 0; r < kAhead; ++r)
      values[r] = factors[r] == 0 ? 0.0F : weights(rows[r] * p.d + j);
    for (int r = 0; r < kAhead; ++r)
      sum = __fma_rn(static_cast<double>(factors[r]), static_cast<double>(values[r]), sum);
  }
  p.scratch[blockIdx.y * p.d + j] = sum;
}

SAELOOM_KERNEL void AddRunsKernel(BlockRowSumsParams p, std::int64_t parts) {
  const std::int64_t j = ThreadOfGrid();
  if (j >= p.d) return;
  double sum = 0;
  for (std::int64_t r = 0; r < parts; ++r) sum += p.scratch[(blockIdx.y * parts + r) * p.d + j];
  p.out[blockIdx.y * p.d + j] = sum;
}

SAELOOM_KERNEL void BlockRunsKernel(BlockSumsParams p) {
  SAELOOM_SHARED(double, shared, 2 * kMaxWarps);
  const std::int64_t n = p.blocks.latents;
  const std::int64_t end = n * (blockIdx.x + 1) / gridDim.x;
  double sum[1] = {0};
  for (std::int64_t i = n * blockIdx.x / gridDim.x + threadIdx.x; i < end; i += kThreads)
    sum[0] += p.values[p.blocks.members[blockIdx.y * n + i]];
  BlockSum<1> block_sum(shared);
  block_sum(sum);
  if (threadIdx.x == 0) p.scratch[blockIdx.y * gridDim.x + blockIdx.x] = sum[0];
}

/// A warp a block: at most 32 parts.
SAELOOM_KERNEL void BlockTotalsKernel(BlockSumsParams p, std::int64_t parts) {
  const double own = threadIdx.x < parts ? p.scratch[blockIdx.x * parts + threadIdx.x] : 0.0;
  const double sum = WarpSum(own);
  if (threadIdx.x == 0) p.out[blockIdx.x] = sum;
}

SAELOOM_KERNEL void AddBlockSumsKernel(AddBlockSumsParams p) {
  const std::int64_t j = ThreadOfGrid();
  if (j >= p.width) return;
  double sum = 0;
  for (int v = 0; v < p.count; ++v) sum += p.parts[v * p.width + j];
  p.out[j] = sum;
}

SAELOOM_KERNEL void AddSquaresKernel(AddSquaresParams p) {
  const std::int64_t i = ThreadOfGrid();
  if (i >= p.count) return;
  const auto value = static_cast<double>(p.values[i]);
  p.sums[i] = __fma_rn(value, value, p.sums[i]);
}

bool Valid(const device::VirtualBlocks& blocks) { return blocks.count >= 0 && blocks.latents >= 0; }

}  // namespace

Error DecodeBlocks(const DecodeBlocksParams& p, void* stream) {
  if (!Valid(p.blocks) || p.first_token < 0 || p.tokens < 0 || p.d < 0)
    return Error::kInvalidArgument;
  if (p.tokens == 0 || p.d == 0 || p.blocks.count == 0) return Error::kOk;
  if (p.codes.indptr == nullptr || p.parts == nullptr || p.blocks.block == nullptr ||
      (p.codes.capacity > 0 && (p.codes.ids == nullptr || p.f == nullptr || p.w.hi == nullptr))) {
    return Error::kInvalidArgument;
  }
  const auto blocks = static_cast<unsigned>(p.tokens);
  if (p.w.lo == nullptr) {
    return SAELOOM_LAUNCH((DecodeBlocksKernel<HighWeights>), blocks, ThreadsOf(p.d), 0, stream, p,
                          HighWeights{p.w.hi});
  }
  return SAELOOM_LAUNCH((DecodeBlocksKernel<JoinedWeights>), blocks, ThreadsOf(p.d), 0, stream, p,
                        JoinedWeights{p.w.hi, p.w.lo});
}

Error AddBlocks(const AddBlocksParams& p, void* stream) {
  if (p.count < 0 || p.tokens < 0 || p.d < 0) return Error::kInvalidArgument;
  if (p.tokens == 0 || p.d == 0) return Error::kOk;
  if (p.out == nullptr || (p.count > 0 && p.parts == nullptr)) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(AddBlocksKernel, Grid(p.tokens * p.d, kThreads), kThreads, 0, stream, p);
}

Error BlockRowSums(const BlockRowSumsParams& p, void* stream) {
  if (!Valid(p.blocks) || p.d < 0) return Error::kInvalidArgument;
  if (p.blocks.count == 0 || p.d == 0) return Error::kOk;
  if (p.scratch == nullptr || p.out == nullptr ||
      (p.blocks.latents > 0 &&
       (p.weights == nullptr || p.w.hi == nullptr || p.blocks.members == nullptr))) {
    return Error::kInvalidArgument;
  }
  const std::int64_t parts = device::RowSumParts(p.blocks.latents);
  const auto count = static_cast<unsigned>(p.blocks.count);
  const int threads = ThreadsOf(p.d);
  const dim3 runs(Grid(p.d, kThreads), count * static_cast<unsigned>(parts));
  const Error error = p.w.lo == nullptr
                          ? SAELOOM_LAUNCH((RowRunsKernel<HighWeights>), runs, threads, 0, stream,
                                           p, HighWeights{p.w.hi}, parts)
                          : SAELOOM_LAUNCH((RowRunsKernel<JoinedWeights>), runs, threads, 0, stream,
                                           p, JoinedWeights{p.w.hi, p.w.lo}, parts);
  if (error != Error::kOk) return error;
  const dim3 blocks(Grid(p.d, kThreads), count);
  return SAELOOM_LAUNCH(AddRunsKernel, blocks, threads, 0, stream, p, parts);
}

Error BlockSums(const BlockSumsParams& p, void* stream) {
  if (!Valid(p.blocks)) return Error::kInvalidArgument;
  if (p.blocks.count == 0) return Error::kOk;
  if (p.scratch == nullptr || p.out == nullptr ||
      (p.blocks.latents > 0 && (p.values == nullptr || p.blocks.members == nullptr))) {
    return Error::kInvalidArgument;
  }
  const auto count = static_cast<unsigned>(p.blocks.count);
  const std::int64_t parts = device::BlockSumParts(p.blocks.latents);
  const dim3 runs(static_cast<unsigned>(parts), count);
  const Error error = SAELOOM_LAUNCH(BlockRunsKernel, runs, kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  return SAELOOM_LAUNCH(BlockTotalsKernel, count, 32, 0, stream, p, parts);
}

Error AddBlockSums(const AddBlockSumsParams& p, void* stream) {
  if (p.count < 0 || p.width < 0) return Error::kInvalidArgument;
  if (p.width == 0) return Error::kOk;
  if (p.out == nullptr || (p.count > 0 && p.parts == nullptr)) return Error::kInvalidArgument;
  return SAELOOM_LAUNCH(AddBlockSumsKernel, Grid(p.width, kThreads), ThreadsOf(p.width), 0, stream,
                        p);
}

Error AddSquares(const AddSquaresParams& p, void* stream) {
  if (p.count < 0 || (p.count > 0 && (p.values == nullptr || p.sums == nullptr)))
    return Error::kInvalidArgument;
  if (p.count == 0) return Error::kOk;
  return SAELOOM_LAUNCH(AddSquaresKernel, Grid(p.count, kThreads), kThreads, 0, stream, p);
}

}  // namespace sae::kernels::cuda
