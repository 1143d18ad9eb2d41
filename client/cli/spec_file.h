#pragma once
// A sweep's YAML file -> SweepSpec: a relative store made absolute, the store's manifest hash and
// width read. Errors: NOT_FOUND for a missing file or store; INVALID_ARGUMENT with all problems
// otherwise, those of YAML with line and column.

#include <string>

#include "client/cli/world.h"
#include "sae/config/sweep_spec.h"

namespace sae::cli {

/// Reads and parses; the store is resolved against the current folder. Does not look at the store.
[[nodiscard]] absl::StatusOr<config::SweepSpec> LoadSpec(const std::string& file,
                                                         const World& world);

/// Fills store_hash, store_d and store_target_d from the store's manifest.json.
[[nodiscard]] absl::Status ReadStoreManifest(config::SweepSpec& spec, const World& world);

}  // namespace sae::cli
