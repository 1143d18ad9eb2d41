#include "client/cli/error_report.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"

namespace sae::cli {
namespace {
constexpr char kDetails[] = "saeloom/details";  // a serialised google.rpc.Status
constexpr char kHint[] = "saeloom/hint";

std::optional<std::string> Payload(const absl::Status& status, const char* type) {
  const auto cord = status.GetPayload(type);
  if (!cord) return std::nullopt;
  return std::string(*cord);
}

/// What helps with a code, where the server's message leaves it open.
std::string HintFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
      return "give a token with --token-file FILE (made by `saeloom token create`)";
    case absl::StatusCode::kPermissionDenied:
      return "`saeloom whoami` shows your role";
    case absl::StatusCode::kAborted:
      return "it has changed meanwhile: read it again and repeat";
    case absl::StatusCode::kUnimplemented:
      return "this coordinator does not have it; `saeloom version --coordinator` shows its version";
    default:
      return "";
  }
}

}  // namespace

void AttachDetails(absl::Status& status, const std::string& trailer) {
  if (!status.ok() && !trailer.empty()) status.SetPayload(kDetails, absl::Cord(trailer));
}

void AttachHint(absl::Status& status, const std::string& hint) {
  if (!status.ok()) status.SetPayload(kHint, absl::Cord(hint));
}

ErrorView ViewOf(const absl::Status& status) {
  ErrorView out;
  if (const auto trailer = Payload(status, kDetails)) out.details = ParseErrorDetails(*trailer);
  out.hint = Payload(status, kHint).value_or(HintFor(status));
  return out;
}

void WriteError(const absl::Status& status, int exit_code, bool json, std::ostream& err) {
  const ErrorView view = ViewOf(status);
  const std::string code = absl::StatusCodeToString(status.code());
  if (json) {
    nlohmann::ordered_json out = {
        {"code", code}, {"message", Message(status)}, {"exit_code", exit_code}};
    if (!view.details.reason.empty()) out["reason"] = view.details.reason;
    for (const FieldViolation& v : view.details.violations)
      out["fields"].push_back({{"field", v.field}, {"description", v.description}});
    if (!view.hint.empty()) out["hint"] = view.hint;
    err << nlohmann::ordered_json{{"error", out}}.dump(
               -1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
        << std::endl;
    return;
  }
  err << "error: " << Message(status) << '\n';
  // A reason that is the code's name tells nothing new.
  if (!view.details.reason.empty() && view.details.reason != code)
    err << "reason: " << view.details.reason << '\n';
  for (const FieldViolation& v : view.details.violations) {
    // A message that lists every problem says each once.
    if (!absl::StrContains(Message(status), v.description) ||
        !absl::StrContains(Message(status), v.field))
      err << "field: " << v.field << ": " << v.description << '\n';
  }
  if (!view.hint.empty()) err << "hint: " << view.hint << '\n';
  err.flush();
}

}  // namespace sae::cli
