#include "worker/agent/gpus.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace saeloom::agent {

std::vector<std::string> VisibleGpus(int detected, const std::optional<std::string>& variable) {
  std::vector<std::string> gpus;
  if (detected <= 0) return gpus;
  if (!variable) {
    for (int i = 0; i < detected; ++i) gpus.push_back(absl::StrCat(i));
    return gpus;
  }
  for (const auto& entry : absl::StrSplit(*variable, ',')) {
    const std::string gpu(absl::StripAsciiWhitespace(entry));
    int number = 0;
    if (gpu.empty()) break;
    if (absl::SimpleAtoi(gpu, &number) && (number < 0 || number >= detected)) break;
    if (std::find(gpus.begin(), gpus.end(), gpu) == gpus.end()) gpus.push_back(gpu);
  }
  return gpus;
}

absl::StatusOr<std::vector<std::string>> GpusForGangs(const std::string& device, int slots,
                                                      const std::vector<std::string>& visible,
                                                      bool built) {
  const std::vector<std::string> none;
  if (device == "cpu") return none;
  const int count = static_cast<int>(visible.size());
  if (device == "auto") return built && slots <= count ? visible : none;
  if (device != "cuda") {
    return absl::InvalidArgumentError(absl::StrCat("--device ", device, ": use auto, cpu or cuda"));
  }
  if (count == 0) {
    return absl::InvalidArgumentError(
        "--device cuda: no GPU here: use --device cpu, or see what `nvidia-smi -L` and "
        "CUDA_VISIBLE_DEVICES say");
  }
  if (slots > count) {
    return absl::InvalidArgumentError(absl::StrCat("--device cuda: ", slots, " slots on ", count,
                                                   count == 1 ? " GPU" : " GPUs", ": use --slots ",
                                                   count, " or less, or --device cpu"));
  }
  return visible;
}

absl::StatusOr<std::vector<std::string>> PickGpus(const std::vector<std::string>& gpus,
                                                  const std::set<std::string>& taken, int count) {
  std::vector<std::string> picked;
  for (const std::string& gpu : gpus) {
    if (static_cast<int>(picked.size()) == count) break;
    if (taken.count(gpu) == 0) picked.push_back(gpu);
  }
  if (static_cast<int>(picked.size()) < count) {
    return absl::ResourceExhaustedError(
        absl::StrCat("needs ", count, count == 1 ? " GPU, " : " GPUs, ", picked.size(), " of ",
                     gpus.size(), " are free here"));
  }
  return picked;
}

}  // namespace saeloom::agent
