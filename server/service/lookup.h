#pragma once
// What several handlers begin with: sweeps and trials by their names, a request's id and body. On
// the core's thread. Errors: INVALID_ARGUMENT for a name that is none, NOT_FOUND.

#include <string>
#include <utility>

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

using FoundTrial = std::pair<const SweepRecord*, const TrialRecord*>;

[[nodiscard]] absl::StatusOr<const SweepRecord*> FindSweep(const Core& core,
                                                           const std::string& name,
                                                           const std::string& field);
[[nodiscard]] absl::StatusOr<FoundTrial> FindTrial(const Core& core, const std::string& name,
                                                   const std::string& field);
/// The only project is "projects/default", or "".
[[nodiscard]] absl::Status CheckParent(const std::string& parent);
/// The trial as the API shows it, without attempts and log tail.
[[nodiscard]] absl::StatusOr<saeloom::v1::Trial> Describe(Core& core, const SweepRecord& sweep,
                                                          const TrialRecord& trial);
/// The request's id, with a fingerprint of all else that it says.
RequestKey KeyOf(const google::protobuf::Message& request);

}  // namespace sae::server
