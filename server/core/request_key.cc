#include "server/core/request_key.h"

#include "proto/convert/error_reason.h"

namespace sae::server {
namespace {

/// The store keeps "#BODY\nANSWER"; answers of requests whose body is not compared, and of older
/// programs, stand alone.
std::string Packed(const std::string& body, const std::string& answer) {
  return body.empty() ? answer : absl::StrCat("#", body, "\n", answer);
}

void Unpack(UsedRequest& used, std::string& body) {
  const std::size_t end = used.response.find('\n');
  if (used.response.empty() || used.response[0] != '#' || end == std::string::npos) return;
  body = used.response.substr(1, end - 1);
  used.response.erase(0, end + 1);
}

}  // namespace

absl::StatusOr<std::optional<UsedRequest>> FirstUse(EventStore& store, const RequestKey& request,
                                                    const std::string& method,
                                                    const std::string& sweep) {
  if (request.id.empty()) return std::nullopt;
  SAE_ASSIGN_OR_RETURN(std::optional<UsedRequest> used, store.FindRequest(request.id));
  if (!used) return std::nullopt;
  std::string body;
  Unpack(*used, body);
  if (used->method != method) {
    return WithReason(
        absl::InvalidArgumentError(absl::StrCat(
            "request_id: \"", used->id, "\" was used for ", used->method, " of sweep \"",
            used->sweep, "\", not for ", method, "; use a new id for a new request")),
        "REQUEST_ID_WAS_USED");
  }
  const bool other_sweep = !sweep.empty() && used->sweep != sweep;
  if (other_sweep || (!body.empty() && !request.body.empty() && body != request.body)) {
    return WithReason(absl::InvalidArgumentError(absl::StrCat(
                          "request_id: \"", used->id, "\" was used for another ", used->method,
                          " of sweep \"", used->sweep, "\"; use a new id for a new request")),
                      "REQUEST_ID_WAS_USED");
  }
  return used;
}

absl::StatusOr<std::optional<std::string>> FirstAnswer(EventStore& store, const RequestKey& request,
                                                       const std::string& method,
                                                       const std::string& sweep) {
  SAE_ASSIGN_OR_RETURN(const std::optional<UsedRequest> used,
                       FirstUse(store, request, method, sweep));
  if (!used) return std::nullopt;
  return used->response;
}

void Remember(const RequestKey& request, const std::string& method, const std::string& sweep,
              const std::string& answer, Transaction& transaction) {
  if (request.id.empty()) return;
  transaction.requests.push_back({request.id, method, sweep, Packed(request.body, answer)});
}

}  // namespace sae::server
