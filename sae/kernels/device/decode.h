#pragma once
// Reconstruction, its error and the gradient that reaches each code. All latents in one group, or
// Matryoshka's G: group g holds the local ids [last[g - 1], last[g]), last[count - 1] = latents;
// groups may be empty. All pointers are device memory; kernels are enqueued on `stream`. Matrices
// are row-major and contiguous; float32, weights split (rows.h: joined where lo is given). Entries
// beyond indptr[tokens] do not exist. One block a token. Order of additions: what is added to one
// element (bias, then entries ascending) is one chain of fused multiply-adds owned by one thread;
// dot products are chains too, column j in chain j / columns mod threads (ShapeOfToken), each 32
// adjacent chains added in a fixed tree, those sums ascending; sums of squares are float64, columns
// by threads, then a fixed tree. So bits do not depend on the device. NaN
// propagates. Errors: kInvalidArgument where a size is negative or a needed pointer is null.
// Partners: namespace plain, the same params with host memory (decode_cpu.cc).
// Sources: sae algorithms 0.2, 3b.2, 7.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/slots.h"

namespace sae::kernels::device {

inline constexpr int kMaxGroups = 16;

struct Groups {
  int count = 1;
  std::int32_t last[kMaxGroups] = {0x7fffffff};  ///< local ids; by default one group of all
  double weight[kMaxGroups] = {1};               ///< w_g
};

/// Adjacent columns of a row that a thread owns: a warp reads 256 bytes of bfloat16 at once, and
/// twice 128 where lo is joined. Either way two registers hold them, so that the rows of 32 entries
/// stay in a thread's registers from the reconstruction to the latents' gradients.
inline constexpr int kHighColumns = 4;
inline constexpr int kJoinedColumns = 2;
/// Of a block: few, so that blocks which wait and blocks which compute share a multiprocessor.
inline constexpr int kMostTokenThreads = 128;

struct TokenShape {
  int threads;  ///< of the token's block: a multiple of 32
  int columns;  ///< adjacent ones of a thread, which owns those threads * columns further on too
};
constexpr TokenShape ShapeOfToken(std::int64_t d, bool joined) {
  const int columns = joined ? kJoinedColumns : kHighColumns;
  const std::int64_t packs = d > 0 ? (d + columns - 1) / columns : 1;
  const std::int64_t turns = (packs + kMostTokenThreads - 1) / kMostTokenThreads;
  const std::int64_t threads = (packs + turns - 1) / turns;
  return {static_cast<int>((threads + 31) / 32 * 32), columns};
}

/// parts[g] (tokens x d) = sum over the token's entries of group g of f_e row_scale_i W_i; group 0
/// starts from the bias. f_e row_scale_i is rounded to float32.
struct DecodeParams {
  DeviceCodes codes;
  const float* f = nullptr;          ///< decode weights, per entry
  WeightRows w;                      ///< latents x d; lo null: hi alone
  const float* row_scale = nullptr;  ///< latents, or null
  const float* bias = nullptr;       ///< d, or null
  Groups groups;
  float* parts = nullptr;  ///< groups x tokens x d
  std::int64_t d = 0;
};

/// x_hat = sum of the parts (in group order); e_g = sum of parts 0..g - target_scale target; parts
/// become H_g = sum over g' >= g of 2 rho w_g' e_g', added from the last group down; squares[t] =
/// sum over g of w_g |e_g|^2 in float64 (the loss is rho times their sum).
struct PrefixResidualParams {
  float* parts = nullptr;         ///< groups x tokens x d, in place
  const float* target = nullptr;  ///< tokens x d, raw
  float target_scale = 1;
  const double* rho = nullptr;  ///< device scalar
  Groups groups;
  float* x_hat = nullptr;     ///< tokens x d
  double* squares = nullptr;  ///< tokens
  std::int64_t tokens = 0, d = 0;
};

/// u_e = row_scale_i (W_i . H_group(i)[token]).
struct LatentGradientParams {
  DeviceCodes codes;
  WeightRows w;
  const float* row_scale = nullptr;
  Groups groups;
  const float* h = nullptr;  ///< groups x tokens x d
  float* u = nullptr;        ///< per entry
  std::int64_t d = 0;
};

/// The three in one pass for one group on one rank, to the bit: the decoder rows of a token's last
/// 32 entries are read once and kept in registers; those of earlier entries are read twice.
struct TokenPassParams {
  DecodeParams decode;            ///< groups.count == 1; parts = H, as PrefixResidual leaves it
  const float* target = nullptr;  ///< tokens x d, raw
  float target_scale = 1;
  const double* rho = nullptr;  ///< device scalar
  float* x_hat = nullptr;       ///< tokens x d
  double* squares = nullptr;    ///< tokens
  float* u = nullptr;           ///< per entry
};

/// AuxK: out holds the dead latents' reconstruction; ea = out + x_hat - target_scale target;
/// squares[t] = |ea|^2 in float64; out becomes factor ea. Where *enabled is 0 both become 0.
struct AuxResidualParams {
  float* out = nullptr;          ///< tokens x d
  const float* x_hat = nullptr;  ///< tokens x d
  const float* target = nullptr;
  float target_scale = 1;
  const double* factor = nullptr;         ///< device scalar
  const std::int32_t* enabled = nullptr;  ///< device flag, or null
  double* squares = nullptr;              ///< tokens
  std::int64_t tokens = 0, d = 0;
};

/// *variance = mean over tokens and d of (e - column_means)^2, e = x_hat - target_scale target,
/// column_means[j] = mean over tokens of e; float64.
struct ResidualVarianceParams {
  const float* x_hat = nullptr;
  const float* target = nullptr;
  float target_scale = 1;
  double* column_means = nullptr;  ///< d
  double* partial = nullptr;       ///< tokens, scratch
  double* variance = nullptr;      ///< device scalar
  std::int64_t tokens = 0, d = 0;
};

/// What AuxK multiplies by, from the variance V of ResidualVariance. *enabled = *dead > 0 and V is
/// positive and finite; then *share = alpha_variance / (tokens d V), so that the loss is *share
/// sum of squares, and *factor = 2 *share; else both are 0.
struct AuxScaleParams {
  const double* variance = nullptr;
  const std::int32_t* dead = nullptr;  ///< dead latents of all ranks, device scalar; null: some
  double alpha_variance = 0;           ///< alpha V0
  std::int64_t tokens = 0, d = 0;
  double* share = nullptr;  ///< may be null
  double* factor = nullptr;
  std::int32_t* enabled = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error Decode(const device::DecodeParams& params, void* stream);
[[nodiscard]] Error PrefixResidual(const device::PrefixResidualParams& params, void* stream);
[[nodiscard]] Error LatentGradient(const device::LatentGradientParams& params, void* stream);
[[nodiscard]] Error TokenPass(const device::TokenPassParams& params, void* stream);
[[nodiscard]] Error AuxResidual(const device::AuxResidualParams& params, void* stream);
[[nodiscard]] Error ResidualVariance(const device::ResidualVarianceParams& params, void* stream);
[[nodiscard]] Error AuxScale(const device::AuxScaleParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void Decode(const device::DecodeParams& params);
void PrefixResidual(const device::PrefixResidualParams& params);
void LatentGradient(const device::LatentGradientParams& params);
void TokenPass(const device::TokenPassParams& params);
void AuxResidual(const device::AuxResidualParams& params);
void ResidualVariance(const device::ResidualVarianceParams& params);
void AuxScale(const device::AuxScaleParams& params);
}  // namespace sae::kernels::plain
