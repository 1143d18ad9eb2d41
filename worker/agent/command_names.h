#pragma once
// Names that come from the network and become folders are looked at before anything is done with
// them. Pure.

#include "sae/base/status.h"
#include "saeloom/v1/worker_service.pb.h"

namespace saeloom::agent {

/// INVALID_ARGUMENT when a sweep, trial or checkpoint of the command, or of what it starts along
/// with it, is no name (sae/base/ids.h), or an attempt's number is below 1.
[[nodiscard]] absl::Status CheckNames(const saeloom::v1::Command& command);

}  // namespace saeloom::agent
