#pragma once
// A long history, written straight into a database: for starting over it.

#include <string>

#include "sae/base/status.h"

namespace sae::bench {

/// Makes `path`: one sweep "history" of `trials` trials that have all run and succeeded, with
/// points to make `events` events in all.
[[nodiscard]] absl::Status FillDatabase(const std::string& path, int trials, std::int64_t events);

/// A sweep of about `trials` points: seeds and learning rates.
std::string SweepJson(const std::string& name, int trials);

}  // namespace sae::bench
