#pragma once
// The coordinator's part of `saeloom plan`: what it would do with the sweep now, and whether it has
// it already. Changes nothing.

#include <optional>
#include <string>

#include "client/cli/api.h"
#include "sae/config/sweep_spec.h"

namespace sae::cli {

struct ServerPlan {
  std::optional<saeloom::v1::SweepPlan> plan;  ///< nullopt: PreviewSweep is UNIMPLEMENTED there
  bool exists = false;                         ///< a sweep of this name and this very spec
  bool name_taken = false;                     ///< a sweep of this name, with another spec
};

[[nodiscard]] absl::StatusOr<ServerPlan> AskServer(Api& api, const config::SweepSpec& spec);
std::string ServerPlanText(const ServerPlan& plan, const std::string& address);
/// A JSON object.
std::string ServerPlanJson(const ServerPlan& plan, const std::string& address);

}  // namespace sae::cli
