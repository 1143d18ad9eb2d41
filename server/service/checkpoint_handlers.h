#pragma once
// What people ask about checkpoints, as the API asks it; on the core's thread. Errors: NOT_FOUND,
// INVALID_ARGUMENT for a name that is none, FAILED_PRECONDITION for one that is being deleted.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListCheckpointsRequest& request,
                                  saeloom::v1::ListCheckpointsResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ProtectCheckpointRequest& request,
                                  saeloom::v1::Checkpoint& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::CollectCheckpointsRequest& request,
                                  saeloom::v1::CollectCheckpointsResponse& response);

}  // namespace sae::server
