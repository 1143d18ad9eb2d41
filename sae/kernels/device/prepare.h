#pragma once
// What a step does before the encoder's products. All pointers are device memory (namespace plain:
// host memory); work is enqueued on `stream`, thread-safe on distinct outputs, outputs overlap no
// inputs. Errors: kInvalidArgument for negative sizes and missing pointers. Partners: namespace
// plain, on the calling thread (prepare_cpu.cc): the same bits. C++17.

#include <cstdint>

#include "sae/kernels/device/rows.h"
#include "sae/kernels/error.h"

namespace sae::kernels::device {

/// c_i = b_enc_i - W_i . b_dec in float64, rounded once (kernels::FoldBias). Order: element j is
/// added to sum (j / 4) mod 32 by a fused multiply-add, ascending; then sum l takes in l + 16, + 8,
/// + 4, + 2, + 1.
struct FoldBiasParams {
  WeightRows w;                  ///< [latents, d]; joined where lo is given
  const float* b_enc = nullptr;  ///< latents; null: 0
  const float* b_dec = nullptr;  ///< d; null: no pre-bias
  float* c = nullptr;            ///< latents
  std::int64_t latents = 0, d = 0;
};

/// out = bfloat16(x), to nearest even.
struct ToBf16Params {
  const float* x = nullptr;
  std::uint16_t* out = nullptr;
  std::int64_t count = 0;
};

/// Copies row first + r, or the row ids[first + r] where ids is given, to row r of each output that
/// is not null, for 0 <= r < rows. Where ids is given and first + r >= *id_count there is no such
/// row: `joined` and `hi` become 0, and c_out -infinity, so that it is never selected; ids beyond
/// *id_count are not read. Nor is there a row from `all_rows` on.
struct GatherRowsParams {
  WeightRows w;
  const float* c = nullptr;                 ///< of all rows; null: 0
  const std::int32_t* ids = nullptr;        ///< local ids, ascending; null: consecutive
  const std::int32_t* id_count = nullptr;   ///< needed with ids
  std::int64_t first = 0, rows = 0, d = 0;  ///< rows of the output
  float* joined = nullptr;                  ///< [rows, d]: float32
  std::uint16_t* hi = nullptr;              ///< [rows, d]
  float* c_out = nullptr;                   ///< rows
  std::int64_t id_limit = 0;                ///< of all calls together; read with `overflow`
  std::int32_t* overflow = nullptr;         ///< with ids, or null: set to 1 where *id_count is more
  std::int64_t all_rows = 0x7fffffffffffffff;  ///< of w, or ids
};

/// out[i] = value: counters and flags before their first use.
struct FillParams {
  std::int32_t* out = nullptr;
  std::int64_t count = 0;
  std::int32_t value = 0;
};

}  // namespace sae::kernels::device

namespace sae::kernels::cuda {
[[nodiscard]] Error Fill(const device::FillParams& params, void* stream);
[[nodiscard]] Error FoldBias(const device::FoldBiasParams& params, void* stream);
[[nodiscard]] Error ToBf16(const device::ToBf16Params& params, void* stream);
[[nodiscard]] Error GatherRows(const device::GatherRowsParams& params, void* stream);
}  // namespace sae::kernels::cuda

namespace sae::kernels::plain {
void Fill(const device::FillParams& params);
void FoldBias(const device::FoldBiasParams& params);
void ToBf16(const device::ToBf16Params& params);
void GatherRows(const device::GatherRowsParams& params);
}  // namespace sae::kernels::plain
