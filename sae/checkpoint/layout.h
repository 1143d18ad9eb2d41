#pragma once
// How a checkpoint is cut into files: inside this folder only.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/model/state.h"

namespace sae::checkpoint {

inline constexpr const char* kReplicatedFile = "replicated.safetensors";
inline constexpr const char* kTemporaryPrefix = ".tmp-";
inline constexpr const char* kDamagedPrefix = "damaged-";

struct Block {
  std::int64_t index = 0;
  std::int64_t first = 0;
  std::int64_t rows = 0;
};
std::vector<Block> Blocks(std::int64_t latents, std::int64_t block_latents);
/// "latents-00007.safetensors".
std::string BlockName(std::int64_t block);

/// Bytes of one row (all dimensions but the first).
std::int64_t RowBytes(DType dtype, const std::vector<std::int64_t>& shape);
std::int64_t Bytes(const model::StateTensor& tensor);

/// Steps of the folders named as checkpoints, newest first; none where the directory does not exist.
[[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> CheckpointSteps(Env& env, const std::string& directory);

}  // namespace sae::checkpoint
