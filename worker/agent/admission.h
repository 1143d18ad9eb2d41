#pragma once
// Whether this machine can run an attempt, before any process is started. Reads the store's
// manifest. Errors, each with value and remedy: INVALID_ARGUMENT (bad config), NOT_FOUND (no store
// here), FAILED_PRECONDITION (another store than the one submitted), RESOURCE_EXHAUSTED (disk).

#include <string>

#include "sae/base/env.h"
#include "sae/config/run_config.h"
#include "saeloom/v1/worker_service.pb.h"
#include "worker/agent/gang.h"

namespace saeloom::agent {

/// `runs_directory`: where checkpoints will be written. Returns the trial's config.
[[nodiscard]] absl::StatusOr<sae::config::TrialConfig> Admit(sae::Env& env,
                                                             const saeloom::v1::StartAttempt& start,
                                                             const std::string& runs_directory);

/// The store is here, and is the one that was submitted (`hash` "" = any).
[[nodiscard]] absl::Status CheckStore(sae::Env& env, const std::string& store,
                                      const std::string& hash);

/// The hosts of a gang over several, this one first; empty where there are none. INVALID_ARGUMENT
/// when they cannot hold `ranks`, two have one name, or one has no PeerService.
[[nodiscard]] absl::StatusOr<std::vector<GangHost>> HostsOf(const saeloom::v1::StartAttempt& start,
                                                            int ranks);

/// The class of a refusal.
saeloom::v1::FailureClass ClassOfRefusal(const absl::Status& status);

}  // namespace saeloom::agent
