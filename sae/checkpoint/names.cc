#include <algorithm>
#include <cstdio>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/layout.h"

namespace sae::checkpoint {
namespace {
constexpr const char* kStepPrefix = "step-";
constexpr std::size_t kDigits = 12;
}  // namespace

std::int64_t BlockLatents(std::int64_t latents) {
  constexpr std::int64_t kBlock = 4096, kFiles = 1024;
  std::int64_t most = kBlock;
  while (most * kFiles < latents) most *= 2;
  return std::clamp<std::int64_t>((latents + 7) / 8, 1, most);
}

std::string StepName(std::int64_t step) {
  char text[32];
  std::snprintf(text, sizeof text, "step-%012lld", static_cast<long long>(step));
  return text;
}

std::optional<std::int64_t> StepOf(const std::string& name) {
  const std::string prefix = kStepPrefix;
  if (name.rfind(prefix, 0) != 0 || name.size() < prefix.size() + kDigits || name.size() > prefix.size() + 18) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  for (std::size_t i = prefix.size(); i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    step = step * 10 + (name[i] - '0');
  }
  return step;
}

std::string BlockName(std::int64_t block) {
  char text[32];
  std::snprintf(text, sizeof text, "latents-%05lld.safetensors", static_cast<long long>(block));
  return text;
}

std::vector<Block> Blocks(std::int64_t latents, std::int64_t block_latents) {
  std::vector<Block> out;
  for (std::int64_t first = 0; first < latents; first += block_latents) {
    out.push_back({static_cast<std::int64_t>(out.size()), first, std::min(block_latents, latents - first)});
  }
  return out;
}

std::int64_t RowBytes(DType dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = SizeOf(dtype);
  for (std::size_t i = 1; i < shape.size(); ++i) bytes *= shape[i];
  return bytes;
}

std::int64_t Bytes(const model::StateTensor& tensor) {
  return tensor.shape.empty() ? SizeOf(tensor.dtype) : tensor.shape[0] * RowBytes(tensor.dtype, tensor.shape);
}

absl::StatusOr<std::vector<std::int64_t>> CheckpointSteps(Env& env, const std::string& directory) {
  std::vector<std::int64_t> steps;
  if (!env.Exists(directory)) return steps;
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(directory));
  for (const std::string& name : names) {
    if (const auto step = StepOf(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

}  // namespace sae::checkpoint
