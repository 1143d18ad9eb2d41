#pragma once
// Small agreements between ranks, so that all of them take the same branch. All ranks call each function at
// the same point. Not thread-safe. Errors: those of the communicator.

#include <string>

#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::checkpoint {

/// OK when every rank brings OK; else, on every rank, the error of the lowest rank that has one (code and
/// message, prefixed with its rank when there are several ranks).
[[nodiscard]] absl::Status Agree(comm::Communicator& communicator, const absl::Status& mine);

/// Rank 0's text on every rank.
[[nodiscard]] absl::Status BroadcastText(comm::Communicator& communicator, std::string& text, int root = 0);

}  // namespace sae::checkpoint
