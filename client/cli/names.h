#pragma once
// Names as a person types and reads them: "demo", "demo/0003", "demo/0003/step-000000000244", for
// resource names of the API; and `key=value` arguments. Pure. Errors: INVALID_ARGUMENT.

#include <map>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::cli {

/// "projects/default/sweeps/demo/trials/0003" -> "demo/0003"; a short name is itself.
std::string ShortName(const std::string& name);

struct TrialReference {
  std::string sweep;
  std::string trial;
};
/// "SWEEP/TRIAL" (or resource names) -> its two bare parts.
[[nodiscard]] absl::StatusOr<TrialReference> ParseTrialReference(const std::string& text);
/// "SWEEP/TRIAL" -> the resource name.
[[nodiscard]] absl::StatusOr<std::string> TrialResource(const std::string& text);
/// "SWEEP/TRIAL/CHECKPOINT" -> the resource name.
[[nodiscard]] absl::StatusOr<std::string> CheckpointResource(const std::string& text);

/// `flag` is for messages; a value may be empty, a key may not.
[[nodiscard]] absl::StatusOr<std::map<std::string, std::string>> ParsePairs(
    const std::vector<std::string>& texts, const std::string& flag);

}  // namespace sae::cli
