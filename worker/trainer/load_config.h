#pragma once
// run.json -> a valid RunConfig. Stateless. Errors: INVALID_ARGUMENT with every problem at once, NOT_FOUND.

#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/config/run_config.h"

namespace saeloom::trainer {

/// What can be known without the store.
[[nodiscard]] absl::StatusOr<sae::config::RunConfig> LoadConfig(sae::Env& env, const std::string& path);

}  // namespace saeloom::trainer
