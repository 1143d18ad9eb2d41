#include "proto/convert/error_details.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sae {
namespace {

/// gRPC's limit of all metadata is 8 KiB; the trailer may travel in base64.
constexpr std::size_t kMostMetadata = 6000;

bool IsPath(const std::string& text) {
  if (text.empty() || text.size() > 200) return false;
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (!letter(text[0])) return false;
  for (const char c : text) {
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '.' && c != '[' && c != ']') return false;
  }
  return true;
}

/// "trial.sae.k: is 0", "unknown key trial.sae.kk, did you mean ..."; an empty field when neither.
FieldViolation ViolationOf(const std::string& part) {
  const std::size_t colon = part.find(": ");
  if (colon != std::string::npos && IsPath(part.substr(0, colon)))
    return {part.substr(0, colon), part.substr(colon + 2)};
  const std::string unknown = "unknown key ";
  if (part.rfind(unknown, 0) == 0) {
    const std::string path = part.substr(unknown.size(), part.find(',') - unknown.size());
    if (IsPath(path)) return {path, part};
  }
  return {"", part};
}

bool NamesFields(absl::StatusCode code) {
  return code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kOutOfRange ||
         code == absl::StatusCode::kUnimplemented || code == absl::StatusCode::kAlreadyExists ||
         code == absl::StatusCode::kAborted;
}

}  // namespace

std::vector<FieldViolation> ViolationsOf(const std::string& message) {
  std::vector<FieldViolation> out;
  const std::vector<std::string> parts = absl::StrSplit(message, "; ");
  for (const std::string& part : parts) {
    FieldViolation violation = ViolationOf(part);
    if (!violation.field.empty()) {
      out.push_back(std::move(violation));
    } else if (!out.empty()) {
      absl::StrAppend(&out.back().description, "; ", part);
    }
  }
  return out;
}

std::string ErrorDetailsOf(const absl::Status& status) {
  if (status.ok()) return "";
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(Message(status));
  google::rpc::ErrorInfo info;
  const auto reason = status.GetPayload(kReasonPayload);
  info.set_reason(reason ? std::string(*reason) : absl::StatusCodeToString(status.code()));
  info.set_domain(kErrorDomain);
  out.add_details()->PackFrom(info);
  std::size_t left = kMostMetadata - std::min(kMostMetadata, 2 * status.message().size());
  google::rpc::BadRequest bad;
  if (NamesFields(status.code())) {
    for (const FieldViolation& violation : ViolationsOf(Message(status))) {
      const std::size_t size = 3 * (violation.field.size() + violation.description.size() + 8) / 2;
      if (size > left) break;
      left -= size;
      auto* field = bad.add_field_violations();
      field->set_field(violation.field);
      field->set_description(violation.description);
    }
  }
  if (bad.field_violations_size() > 0) out.add_details()->PackFrom(bad);
  // The message stands in its own trailer; a long one is not sent twice.
  if (out.message().size() > 500) out.clear_message();
  return out.SerializeAsString();
}

ErrorDetails ParseErrorDetails(const std::string& bytes) {
  ErrorDetails out;
  google::rpc::Status status;
  if (bytes.empty() || !status.ParseFromString(bytes)) return out;
  for (const google::protobuf::Any& any : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      if (info.domain() != kErrorDomain) return {};
      out.reason = info.reason();
    } else if (any.UnpackTo(&bad)) {
      for (const auto& v : bad.field_violations())
        out.violations.push_back({v.field(), v.description()});
    }
  }
  return out;
}

}  // namespace sae
