#pragma once
// --wait of a verb that changes something: asks again and again until it is done. Ctrl-C ends the
// waiting, never the change, and leaves exit code 130 in the session.

#include <functional>
#include <string>

#include "client/cli/verb.h"

namespace sae::cli {

/// `done` asks the coordinator once. A coordinator that is away is waited for, a minute long.
absl::Status Await(Session& session, const std::string& what,
                   const std::function<absl::StatusOr<bool>()>& done);

/// Follows the sweep to its end and sets the exit code of `submit --wait`: 0, 10 or 11.
absl::Status AwaitSweep(Session& session, Api& api, const std::string& sweep);

}  // namespace sae::cli
