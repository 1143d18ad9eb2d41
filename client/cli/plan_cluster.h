#pragma once
// `saeloom plan --gpus`: what the trials of a sweep would cost on a cluster, as text or JSON. Pure.

#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/cost_model.h"
#include "sae/config/sweep_spec.h"

namespace sae::cli {

struct ClusterTrial {
  std::string id;
  config::TrialConfig config;
  config::StepPlan plan;
};

/// Every trial on all devices of `cluster`. The trial is named in errors.
[[nodiscard]] absl::StatusOr<std::vector<ClusterTrial>> PlanOnCluster(
    const std::vector<config::TrialPoint>& points, std::int64_t d, const config::Cluster& cluster);

/// The first trial in full; one line each for all.
std::string ClusterText(const std::vector<ClusterTrial>& trials, std::int64_t d,
                        const config::Cluster& cluster);
std::string ClusterJson(const std::vector<ClusterTrial>& trials, std::int64_t d,
                        const config::Cluster& cluster);

}  // namespace sae::cli
