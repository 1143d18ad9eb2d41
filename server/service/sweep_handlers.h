#pragma once
// The unary calls of SweepService as functions of the core: convert, ask, convert. On the core's
// thread.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

/// The part of CreateSweep that needs no core: any thread.
[[nodiscard]] absl::StatusOr<PreparedSweep> PrepareCreate(
    const saeloom::v1::CreateSweepRequest& request, std::size_t max_trials);
[[nodiscard]] absl::Status HandleCreate(Core& core, const saeloom::v1::CreateSweepRequest& request,
                                        const PreparedSweep& prepared,
                                        saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetSweepRequest& request,
                                  saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetTrialRequest& request,
                                  saeloom::v1::Trial& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::QueryMetricsRequest& request,
                                  saeloom::v1::QueryMetricsResponse& response);

}  // namespace sae::server
