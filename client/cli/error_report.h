#pragma once
// Errors as a person and as a script reads them: "error: MESSAGE", then reason, field paths and a
// hint; with a machine form one JSON object. What a server tells beside code and message (the
// google.rpc messages of the trailer grpc-status-details-bin) travels as payloads of the status.
// Pure but for writing.

#include <ostream>
#include <string>

#include "proto/convert/error_details.h"
#include "sae/base/status.h"

namespace sae::cli {

struct ErrorView {
  ErrorDetails details;  ///< what the server told
  std::string hint;
};

/// `trailer`: a serialised google.rpc.Status; what cannot be read is left out.
void AttachDetails(absl::Status& status, const std::string& trailer);
/// A remedy, where the message has none.
void AttachHint(absl::Status& status, const std::string& hint);
ErrorView ViewOf(const absl::Status& status);

/// Several lines, or one JSON object on one line.
void WriteError(const absl::Status& status, int exit_code, bool json, std::ostream& err);

}  // namespace sae::cli
