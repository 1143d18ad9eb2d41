#pragma once
// Block quantisation of ggml (ggml-quants.c): sizes of all types, dequantisation of those we run.
// Pure functions, thread-safe. The arithmetic is float32 in ggml's order, so results equal ggml's
// bit for bit. Errors: UNIMPLEMENTED names the type and those that are supported.

#include <cstdint>
#include <span>
#include <string>

#include "sae/base/status.h"

namespace sae::lm {

/// Numbers as in a GGUF file.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

struct GgmlTypeInfo {
  const char* name = "";
  std::int64_t block_values = 0;
  std::int64_t block_bytes = 0;
};

/// nullptr for a number that is no type we know.
const GgmlTypeInfo* InfoOf(GgmlType type);
/// Its name, or "type 77".
std::string GgmlTypeName(GgmlType type);
bool CanDequantise(GgmlType type);

/// Fills `out` with the values of consecutive blocks. `out.size()` is a multiple of the type's
/// block and `raw` holds exactly its blocks; INVALID_ARGUMENT otherwise.
[[nodiscard]] absl::Status Dequantise(GgmlType type, std::span<const std::byte> raw,
                                      std::span<float> out);

}  // namespace sae::lm
