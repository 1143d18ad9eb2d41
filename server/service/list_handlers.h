#pragma once
// Lists of sweeps, trials and attempts, the Pareto front, and which trials a filter picks. On the
// core's thread.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListSweepsRequest& request,
                                  saeloom::v1::ListSweepsResponse& response);
/// Whether the request wants the values of all trials (service/read_ahead.h).
bool OrdersByMetric(const saeloom::v1::ListTrialsRequest& request);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListTrialsRequest& request,
                                  saeloom::v1::ListTrialsResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListAttemptsRequest& request,
                                  saeloom::v1::ListAttemptsResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::GetParetoRequest& request,
                                  saeloom::v1::GetParetoResponse& response);
/// Bare names of the sweep's trials that `filter` picks.
[[nodiscard]] absl::StatusOr<std::vector<std::string>> TrialsThatMatch(const SweepRecord& sweep,
                                                                       const std::string& filter);

}  // namespace sae::server
