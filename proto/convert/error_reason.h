#pragma once
// The reason of an error: one word in capitals that programs can act on, beside code and message.
// Pure; no dependency but absl.

#include <string>

#include "sae/base/status.h"

namespace sae {

/// Where an absl::Status carries it.
inline constexpr char kReasonPayload[] = "saeloom/reason";

/// Gives an error a reason of its own; one without has its code's name: "NOT_FOUND".
inline absl::Status WithReason(absl::Status status, const std::string& reason) {
  status.SetPayload(kReasonPayload, absl::Cord(reason));
  return status;
}

}  // namespace sae
