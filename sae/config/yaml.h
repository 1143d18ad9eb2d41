#pragma once
// YAML files of ours as JSON text: for sweeps and for lists of cases. YAML 1.2's core schema for
// plain scalars; keys that are there twice, nesting without bound, aliases of unbounded size and
// documents after the first are errors. Pure. Errors: INVALID_ARGUMENT "FILE:LINE:COLUMN: what".

#include <string>

#include "sae/base/status.h"

namespace sae::config {

/// `file` is for messages.
[[nodiscard]] absl::StatusOr<std::string> YamlToJson(const std::string& yaml,
                                                     const std::string& file);

}  // namespace sae::config
