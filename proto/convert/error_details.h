#pragma once
// What stands beside an error's code and message on the wire (trailer grpc-status-details-bin): a
// google.rpc.Status with ErrorInfo{reason, domain "saeloom"} and, where the message names fields as
// "path: problem; path: problem", a BadRequest that lists them. Pure functions.

#include <string>
#include <utility>
#include <vector>

#include "proto/convert/error_reason.h"
#include "sae/base/status.h"

namespace sae {

inline constexpr char kErrorDomain[] = "saeloom";

struct FieldViolation {
  std::string field;  ///< "trial.sae.k", "parameters[1].sae.k", "page_token"
  std::string description;
  bool operator==(const FieldViolation&) const = default;
};
struct ErrorDetails {
  std::string reason;  ///< one word in capitals, "" = none was sent
  std::vector<FieldViolation> violations;
};

/// The fields that a message of ours names; a part without a path belongs to the one before it.
std::vector<FieldViolation> ViolationsOf(const std::string& message);

/// The serialized google.rpc.Status; "" for OK. Together with the message it stays below what
/// gRPC's metadata may hold: violations beyond that are left out.
std::string ErrorDetailsOf(const absl::Status& status);
/// Of a peer: bytes that are no google.rpc.Status, or of another domain, give no details.
ErrorDetails ParseErrorDetails(const std::string& bytes);

}  // namespace sae
