#pragma once
// What verbs that change a sweep say of it, and when a change is done. Pure but for AwaitState.

#include <functional>
#include <string>

#include "client/cli/verb.h"
#include "saeloom/v1/sweep.pb.h"

namespace sae::cli {

/// "sweep demo: PAUSED, 2/8 done".
std::string SweepLine(const saeloom::v1::Sweep& sweep);
bool SweepHasEnded(const saeloom::v1::Sweep& sweep);
/// None of its trials holds slots any more.
bool SweepIsStill(const saeloom::v1::Sweep& sweep);
/// Until `done` holds of the sweep; `sweep` is then as it was read last.
absl::Status AwaitState(Session& session, Api& api, const std::string& name,
                        const std::function<bool(const saeloom::v1::Sweep&)>& done,
                        saeloom::v1::Sweep& sweep);

}  // namespace sae::cli
