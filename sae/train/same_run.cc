#include "sae/train/same_run.h"

#include <type_traits>

namespace sae::train {
namespace {

std::string Text(const config::FieldPointer& pointer) {
  return std::visit(
      [](const auto* value) -> std::string {
        using T = std::decay_t<decltype(*value)>;
        if constexpr (std::is_same_v<T, bool>) {
          return *value ? "true" : "false";
        } else if constexpr (std::is_same_v<T, std::optional<std::int64_t>> || std::is_same_v<T, std::optional<double>>) {
          return *value ? absl::StrCat(**value) : "auto";
        } else {
          return absl::StrCat(*value);
        }
      },
      pointer);
}

bool Equal(const config::FieldPointer& a, const config::FieldPointer& b) {
  return std::visit(
      [&](const auto* x) {
        const auto* const* y = std::get_if<std::remove_const_t<std::remove_pointer_t<decltype(x)>>*>(&b);
        return y != nullptr && *x == **y;
      },
      a);
}

}  // namespace

absl::Status CheckSameRun(const checkpoint::Manifest& manifest, const TrainerOptions& options, std::int64_t d) {
  const auto refuse = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("checkpoint ", checkpoint::StepName(manifest.info.step), " in ",
                                                   options.checkpoints, " ", what,
                                                   ": use another folder (run.checkpoints), or remove it"));
  };
  const config::SaeConfig& was = manifest.info.config.sae;
  const config::SaeConfig& is = options.config.sae;
  if (manifest.info.d != d) {
    return refuse(absl::StrCat("is for activations of width ", manifest.info.d, ", the store has ", d));
  }
  if (was.architecture != is.architecture) {
    return refuse(absl::StrCat("is of architecture ", was.architecture, ", not ", is.architecture));
  }
  if (was.latents != is.latents) return refuse(absl::StrCat("has ", was.latents, " latents, not ", is.latents));
  const std::string& kept = manifest.info.config.train.moments;
  if (kept != options.config.train.moments) {
    return refuse(absl::StrCat("has moments kept as ", kept, ", not ", options.config.train.moments,
                               ": set train.moments ", kept, " to go on with it, or start anew"));
  }
  if (manifest.info.store_hash != options.store_hash) {
    return refuse(absl::StrCat("was trained on store ", manifest.info.store, " (", manifest.info.store_hash,
                               "), not on ", options.store, " (", options.store_hash, ")"));
  }
  return absl::OkStatus();
}

std::vector<std::string> Differences(const checkpoint::Manifest& manifest, const TrainerOptions& options) {
  std::vector<std::string> out;
  config::TrialConfig was = manifest.info.config;
  config::TrialConfig is = options.config;
  const std::vector<config::Field> before = config::Fields(was);
  const std::vector<config::Field> now = config::Fields(is);
  for (std::size_t i = 0; i < now.size(); ++i) {
    const bool placement = now[i].path == "ranks" || now[i].path == "train.replicas";
    if (placement || Equal(before[i].pointer, now[i].pointer)) continue;
    out.push_back(absl::StrCat(now[i].path, " was ", Text(before[i].pointer), " in the checkpoint and is now ",
                               Text(now[i].pointer)));
  }
  if (manifest.info.instruction_set != options.instruction_set) {
    out.push_back(absl::StrCat("the checkpoint was made with instruction set ", manifest.info.instruction_set,
                               ", this machine runs ", options.instruction_set, ": the run goes on, but not bit for bit"));
  }
  return out;
}

}  // namespace sae::train
