#include "worker/trainer/load_config.h"

namespace saeloom::trainer {
namespace {

void Add(std::string& problems, const std::string& problem) {
  absl::StrAppend(&problems, problems.empty() ? "" : "; ", problem);
}

}  // namespace

absl::StatusOr<sae::config::RunConfig> LoadConfig(sae::Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  absl::StatusOr<sae::config::RunConfig> config = sae::config::ParseRunConfig(text);
  if (!config.ok()) return sae::Annotate(config.status(), sae::ToAbsl(path));
  std::string problems;
  if (const absl::Status trial = sae::config::Validate(config->trial); !trial.ok()) Add(problems, sae::Message(trial));
  const sae::config::PlacementConfig& run = config->run;
  if (config->store.empty()) Add(problems, "store: not set: the folder of an activation store");
  if (run.directory.empty()) Add(problems, "run.directory: is empty: use . for the current folder");
  if (run.checkpoints.empty()) Add(problems, "run.checkpoints: is empty");
  if (run.attempt < 1) Add(problems, absl::StrCat("run.attempt: ", run.attempt, ": needs 1 or more"));
  if (run.device != "cpu" && run.device.rfind("cuda", 0) != 0) {
    Add(problems, absl::StrCat("run.device: \"", run.device, "\" is not cpu, cuda or cuda:N"));
  }
  if (run.threads < 1 || run.threads > 1024) {
    Add(problems, absl::StrCat("run.threads: ", run.threads, " is not in [1, 1024]"));
  }
  if (run.keep_checkpoints < 0) {
    Add(problems, absl::StrCat("run.keep_checkpoints: ", run.keep_checkpoints, " is negative"));
  }
  if (!(run.watchdog_seconds > 0)) {
    Add(problems, absl::StrCat("run.watchdog_seconds: ", run.watchdog_seconds, " is not positive"));
  }
  if (problems.empty()) return config;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", problems));
}

}  // namespace saeloom::trainer
