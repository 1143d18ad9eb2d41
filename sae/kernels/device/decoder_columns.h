#pragma once
// A decoder cut by columns: of W_dec [n, d_out] a rank holds some of 8 blocks of d_out / 8 columns,
// all latents, each block contiguous. Here is what is not work on one block alone (that is Decode,
// TokenPass, LatentGradient and RowUpdate with ColumnRows): codes of all ranks become those of one
// batch, sums over blocks, norms of whole rows. What spans a row is the sum of 8 parts, one a
// block, in order: the bits do not depend on how many ranks hold the blocks. All pointers are
// device memory; enqueued on `stream`. Errors: kInvalidArgument where a size is negative or a
// needed pointer is null. Partners: namespace plain (decoder_columns_cpu.cc). Source: numerics 2;
// performance (f).

#include <cstdint>

#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/rows.h"

namespace sae::kernels::device {

inline constexpr std::int64_t kColumnBlocks = 8;
inline constexpr int kMaxColumnRanks = 8;

/// out[c][t][j] = in[t][first + c width + j].
struct SplitColumnsParams {
  const float* in = nullptr;  ///< tokens x d
  std::int64_t tokens = 0, d = 0;
  std::int64_t first = 0, width = 0, blocks = 0;
  float* out = nullptr;  ///< blocks x tokens x width
};

/// One rank's codes in words of 4 bytes: tokens + 1 of indptr, `capacity` global ids, `capacity`
/// values. More entries than fit: *overflow = 1, and the last are left out.
constexpr std::int64_t WinnerWords(std::int64_t tokens, std::int64_t capacity) {
  return tokens + 1 + 2 * capacity;
}
struct PackWinnersParams {
  DeviceCodes codes;                         ///< local ids; values are not read
  const float* f = nullptr;                  ///< per entry
  const std::int32_t* global_ids = nullptr;  ///< of local ids
  std::int64_t capacity = 0;
  std::int32_t* out = nullptr;  ///< WinnerWords
  std::int32_t* overflow = nullptr;
};

/// Codes of all ranks, each token's by ascending id; place[r][e]: where entry e of rank r lies, or
/// -1 where there is no room (*overflow = 1).
struct MergeWinnersParams {
  const std::int32_t* all = nullptr;  ///< ranks x WinnerWords(tokens, capacity)
  int ranks = 1;
  std::int64_t capacity = 0;      ///< of one rank
  DeviceCodes out;                ///< global ids; values = f
  std::int32_t* place = nullptr;  ///< ranks x capacity; behind a rank's entries not written
  std::int32_t* overflow = nullptr;
};

/// Other values of the same entries: out[place[r][e]] = all[r][e].
struct PlaceValuesParams {
  const std::int32_t* winners = nullptr;  ///< MergeWinners's `all`, for the counts
  const float* all = nullptr;             ///< ranks x capacity
  const std::int32_t* place = nullptr;
  int ranks = 1;
  std::int64_t tokens = 0, capacity = 0;
  float* out = nullptr;
};

/// u[e] = sum over blocks of parts[block][e], in order; own_u[e] = u[own_place[e]].
struct AddPartsParams {
  const float* parts = nullptr;               ///< 8 x stride
  std::int64_t stride = 0;                    ///< entries at most
  const std::int32_t* entries = nullptr;      ///< device scalar
  float* u = nullptr;                         ///< or null
  const std::int32_t* own_entries = nullptr;  ///< device scalar
  const std::int32_t* own_place = nullptr;    ///< own_capacity
  std::int64_t own_capacity = 0;
  float* own_u = nullptr;  ///< or null
};

/// Codes and their u, of whole rows.
struct AlongTerm {
  DeviceIndex index;
  const float* f = nullptr;               ///< per entry
  const float* u = nullptr;               ///< per entry
  const std::int32_t* enabled = nullptr;  ///< device flag, or null
};
inline constexpr int kMaxAlongTerms = 2;

/// What of the row is added to its gradient. unit: -(sum over entries of f u) / |d_i|^2, which
/// projects the gradient; else norm_gradient_i / |d_i|. 0 where |d_i| is.
struct AlongParams {
  std::int64_t latents = 0;
  int terms_count = 0;
  AlongTerm terms[kMaxAlongTerms];
  bool unit = true;
  const float* norm_gradient = nullptr;  ///< latents as ranks have them, one after the other
  const std::int32_t* where = nullptr;   ///< of latent i in norm_gradient
  const double* norm2 = nullptr;         ///< latents: |d_i|^2
  float* along = nullptr;                ///< latents
};

/// sums[i] = sum over blocks of |parts[block][i]|, in order, with the sign bit where all have it:
/// such rows rest (ColumnRows::norm2).
struct SumNormPartsParams {
  const float* parts = nullptr;  ///< 8 x count
  std::int64_t count = 0;
  double* sums = nullptr;
};

/// After Adam: norm2[i] = |sums[i]|; with `unit`, where the row does not rest, its columns are
/// multiplied by 1 / |d_i| rounded to float32, and norm2[i] by its square.
struct FinishColumnsParams {
  MutableWeightRows w;  ///< blocks x latents x width
  std::int64_t blocks = 0, latents = 0, width = 0;
  bool unit = true;
  const double* sums = nullptr;
  double* norm2 = nullptr;
  const std::int32_t* go = nullptr;  ///< device flag, or null; 0: nothing is changed
};

/// norms[i] = |d| of latent global_ids[i].
struct ShardNormsParams {
  const double* norm2 = nullptr;
  const std::int32_t* global_ids = nullptr;  ///< count
  std::int64_t count = 0;
  float* norms = nullptr;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error SplitColumns(const device::SplitColumnsParams& params, void* stream);
[[nodiscard]] Error PackWinners(const device::PackWinnersParams& params, void* stream);
[[nodiscard]] Error MergeWinners(const device::MergeWinnersParams& params, void* stream);
[[nodiscard]] Error PlaceValues(const device::PlaceValuesParams& params, void* stream);
[[nodiscard]] Error AddParts(const device::AddPartsParams& params, void* stream);
[[nodiscard]] Error Along(const device::AlongParams& params, void* stream);
[[nodiscard]] Error SumNormParts(const device::SumNormPartsParams& params, void* stream);
[[nodiscard]] Error FinishColumns(const device::FinishColumnsParams& params, void* stream);
[[nodiscard]] Error ShardNorms(const device::ShardNormsParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void SplitColumns(const device::SplitColumnsParams& params);
void PackWinners(const device::PackWinnersParams& params);
void MergeWinners(const device::MergeWinnersParams& params);
void PlaceValues(const device::PlaceValuesParams& params);
void AddParts(const device::AddPartsParams& params);
void Along(const device::AlongParams& params);
void SumNormParts(const device::SumNormPartsParams& params);
void FinishColumns(const device::FinishColumnsParams& params);
void ShardNorms(const device::ShardNormsParams& params);
}  // namespace sae::kernels::plain
