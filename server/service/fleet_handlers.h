#pragma once
// The unary calls of FleetService as functions of the core: convert, ask, convert. On the core's
// thread.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListWorkersRequest& request,
                                  saeloom::v1::ListWorkersResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetWorkerRequest& request,
                                  saeloom::v1::Worker& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::CordonWorkerRequest& request,
                                  saeloom::v1::Worker& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::UncordonWorkerRequest& request,
                                  saeloom::v1::Worker& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListQueuesRequest& request,
                                  saeloom::v1::ListQueuesResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::UpdateQueueRequest& request,
                                  saeloom::v1::Queue& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetAllocationRequest& request,
                                  saeloom::v1::Allocation& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetDebugInfoRequest& request,
                                  saeloom::v1::DebugInfo& response);

}  // namespace sae::server
