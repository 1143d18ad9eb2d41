#pragma once
// `--check`: what a run would be and take, from its config and the store's manifest alone: no shard is
// opened, nothing is created. Stateless. Errors as LoadConfig and the store's manifest give them.

#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/config/run_config.h"

namespace saeloom::trainer {

/// The report as text for people, or one JSON object.
[[nodiscard]] absl::StatusOr<std::string> CheckReport(sae::Env& env, const sae::config::RunConfig& config, bool json);

}  // namespace saeloom::trainer
