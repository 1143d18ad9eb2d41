// The plainest loops that are right: the definition of what virtual_blocks_cuda.cu computes.
#include <cmath>

#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/device/virtual_blocks.h"

namespace sae::kernels::plain {

void DecodeBlocks(const device::DecodeBlocksParams& p) {
  const std::int64_t size = p.tokens * p.d;
  for (std::int64_t i = 0; i < p.blocks.count * size; ++i) p.parts[i] = 0;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const std::int64_t token = p.first_token + t;
    for (std::int32_t e = p.codes.indptr[token]; e < p.codes.indptr[token + 1]; ++e) {
      const std::int32_t id = p.codes.ids[e];
      if (id < p.first_latent || id >= p.last_latent) continue;
      const float a = p.row_scale == nullptr ? p.f[e] : p.f[e] * p.row_scale[id];
      float* const out = p.parts + p.blocks.block[id] * size + t * p.d;
      for (std::int64_t j = 0; j < p.d; ++j)
        out[j] = std::fma(a, Weight(p.w, id * p.d + j), out[j]);
    }
  }
}

void AddBlocks(const device::AddBlocksParams& p) {
  const std::int64_t size = p.tokens * p.d;
  for (std::int64_t at = 0; at < size; ++at) {
    float sum = p.bias == nullptr ? 0.0F : p.bias[at % p.d];
    for (int v = 0; v < p.count; ++v) sum += p.parts[v * size + at];
    p.out[at] = sum;
  }
}

void BlockRowSums(const device::BlockRowSumsParams& p) {
  const std::int64_t n = p.blocks.latents, parts = device::RowSumParts(n);
  for (int v = 0; v < p.blocks.count; ++v) {
    for (std::int64_t j = 0; j < p.d; ++j) {
      double& out = p.out[v * p.d + j];
      out = 0;
      for (std::int64_t part = 0; part < parts; ++part) {
        double sum = 0;
        for (std::int64_t i = n * part / parts; i < n * (part + 1) / parts; ++i) {
          const std::int64_t row = p.blocks.members[v * n + i];
          if (p.weights[row] == 0) continue;
          sum = std::fma(static_cast<double>(p.weights[row]),
                         static_cast<double>(Weight(p.w, row * p.d + j)), sum);
        }
        out += sum;
      }
    }
  }
}

void BlockSums(const device::BlockSumsParams& p) {
  const std::int64_t n = p.blocks.latents;
  for (int v = 0; v < p.blocks.count; ++v) {
    p.out[v] = 0;
    for (std::int64_t i = 0; i < n; ++i) p.out[v] += p.values[p.blocks.members[v * n + i]];
  }
}

void AddBlockSums(const device::AddBlockSumsParams& p) {
  for (std::int64_t j = 0; j < p.width; ++j) {
    p.out[j] = 0;
    for (int v = 0; v < p.count; ++v) p.out[j] += p.parts[v * p.width + j];
  }
}

void AddSquares(const device::AddSquaresParams& p) {
  for (std::int64_t i = 0; i < p.count; ++i) {
    const auto value = static_cast<double>(p.values[i]);
    p.sums[i] = std::fma(value, value, p.sums[i]);
  }
}

}  // namespace sae::kernels::plain
