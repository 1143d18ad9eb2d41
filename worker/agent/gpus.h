#pragma once
// Which GPUs of this machine its gangs get. A GPU is named as CUDA_VISIBLE_DEVICES names it: its
// number, or its UUID. Pure.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace saeloom::agent {

/// The GPUs that this process may use: all `detected` ones, or those of its CUDA_VISIBLE_DEVICES
/// in that order, each once. As in CUDA the list ends at the first number that is no GPU's.
std::vector<std::string> VisibleGpus(int detected, const std::optional<std::string>& variable);

/// Those of `visible` that gangs get, or none: then gangs compute on CPUs. `device`: "cpu"; "cuda";
/// "auto": cuda where this build has it (`built`) and each of `slots` (0 = as many as there are
/// GPUs) has a GPU. INVALID_ARGUMENT for "cuda" without GPUs, or with more slots than GPUs.
[[nodiscard]] absl::StatusOr<std::vector<std::string>> GpusForGangs(
    const std::string& device, int slots, const std::vector<std::string>& visible, bool built);

/// The first `count` of `gpus` that are not `taken`. RESOURCE_EXHAUSTED when there are fewer.
[[nodiscard]] absl::StatusOr<std::vector<std::string>> PickGpus(
    const std::vector<std::string>& gpus, const std::set<std::string>& taken, int count);

}  // namespace saeloom::agent
