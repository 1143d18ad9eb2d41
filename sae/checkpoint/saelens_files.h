#pragma once
// What reader and writer of SAELens folders share; inside this folder only.

#include <cstdint>
#include <vector>

namespace sae::checkpoint {

inline constexpr char kSaeLensConfig[] = "/cfg.json";
inline constexpr char kSaeLensWeights[] = "/sae_weights.safetensors";
/// Stands in metadata for what is not known of a model, hook or corpus.
inline constexpr char kSaeLensUnknown[] = "unknown";

/// [rows, columns] -> [columns, rows].
inline std::vector<float> Transposed(const std::vector<float>& m, std::int64_t rows,
                                     std::int64_t columns) {
  std::vector<float> out(m.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      out[static_cast<std::size_t>(c * rows + r)] = m[static_cast<std::size_t>(r * columns + c)];
    }
  }
  return out;
}

}  // namespace sae::checkpoint
