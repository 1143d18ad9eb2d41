#include "server/service/auth_handlers.h"

#include <algorithm>

#include "sae/base/ids.h"
#include "server/auth/access.h"
#include "server/service/convert.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

constexpr absl::Duration kDefaultLife = absl::Hours(24 * 30);
constexpr std::int64_t kLongestLifeSeconds = 10LL * 365 * 24 * 3600;
constexpr std::size_t kLongestNote = 256;
constexpr int kDefaultRecords = 100;
constexpr int kMostRecords = 1000;
/// Records looked at for one page: a filter that matches nothing must not read the whole table at
/// once.
constexpr int kMostRead = 20'000;

v1::Token ToProto(const TokenRecord& record) {
  v1::Token token;
  token.set_id(record.id);
  token.set_principal(record.principal);
  token.set_role(record.role);
  *token.mutable_create_time() = ToTimestamp(record.created);
  if (record.expires != absl::InfiniteFuture())
    *token.mutable_expire_time() = ToTimestamp(record.expires);
  if (record.last_used != absl::InfinitePast())
    *token.mutable_last_used_time() = ToTimestamp(record.last_used);
  token.set_revoked(record.revoked);
  token.set_note(record.note);
  return token;
}

absl::Status CheckRequest(const v1::CreateTokenRequest& request) {
  SAE_RETURN_IF_ERROR(ValidateName(request.principal(), "principal"));
  if (request.principal() == Anonymous().name) {
    return absl::InvalidArgumentError("principal: \"anonymous\" is who calls without TLS");
  }
  Role role = Role::kNone;
  SAE_RETURN_IF_ERROR(ParseTokenRole(request.role(), "role", role));
  if (request.ttl_seconds() < 0 || request.ttl_seconds() > kLongestLifeSeconds) {
    return absl::InvalidArgumentError(absl::StrCat("ttl_seconds: ", request.ttl_seconds(),
                                                   ", must be between 0 (30 days) and ",
                                                   kLongestLifeSeconds, " (10 years)"));
  }
  if (request.note().size() > kLongestNote) {
    return absl::InvalidArgumentError(
        absl::StrCat("note: has ", request.note().size(), " bytes, at most ", kLongestNote));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CreateToken(Core& core, TokenTable& tokens, const Entropy& entropy,
                         const v1::CreateTokenRequest& request, v1::CreateTokenResponse& response) {
  SAE_RETURN_IF_ERROR(CheckRequest(request));
  std::vector<UsedRequest> used;
  if (!request.request_id().empty()) {
    SAE_ASSIGN_OR_RETURN(const auto before, core.FindRequest(request.request_id()));
    if (before) {
      return absl::AlreadyExistsError(absl::StrCat(
          "request_id: \"", request.request_id(), "\" was used for ", before->method,
          before->method == "CreateToken"
              ? absl::StrCat(" and made token ", before->response,
                             ", whose secret is told only once; revoke it and make another")
              : "; use a new id for a new request"));
    }
  }
  SAE_ASSIGN_OR_RETURN(const NewToken made, MakeToken(entropy));
  TokenRecord record;
  record.id = made.id;
  record.secret_hash = made.hash;
  record.principal = request.principal();
  record.role = request.role();
  record.note = request.note();
  record.created = core.Now();
  record.expires = core.Now() + (request.ttl_seconds() == 0 ? kDefaultLife
                                                            : absl::Seconds(request.ttl_seconds()));
  if (!request.request_id().empty())
    used.push_back({request.request_id(), "CreateToken", "", record.id});
  SAE_RETURN_IF_ERROR(core.StoreTokens({record}, std::move(used)));
  *response.mutable_token() = ToProto(record);
  response.set_secret(made.text);
  tokens.Put(std::move(record));
  return absl::OkStatus();
}

absl::Status ListTokens(const TokenTable& tokens, v1::ListTokensResponse& response) {
  for (const TokenRecord& record : tokens.All()) *response.add_tokens() = ToProto(record);
  return absl::OkStatus();
}

absl::Status RevokeToken(Core& core, TokenTable& tokens, const v1::RevokeTokenRequest& request,
                         v1::Token& response) {
  for (TokenRecord& record : tokens.All()) {
    if (record.id != request.id()) continue;
    if (!record.revoked) {
      record.revoked = true;
      SAE_RETURN_IF_ERROR(core.StoreTokens({record}, {}));
      tokens.Put(record);
    }
    response = ToProto(record);
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat(
      "no token \"", request.id(), "\"; its id is what stands between the two _ of the token"));
}

absl::Status Handle(Core&, const v1::WhoAmIRequest&, v1::WhoAmIResponse& response,
                    const Principal& caller) {
  response.set_principal(caller.name);
  response.set_role(ToString(caller.role));
  response.set_method(caller.method);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::ListAuditEventsRequest& request,
                    v1::ListAuditEventsResponse& response) {
  if (request.page_size() < 0 || request.after_id() < 0) {
    return absl::InvalidArgumentError("page_size and after_id: must be >= 0");
  }
  const int page =
      request.page_size() == 0 ? kDefaultRecords : std::min(request.page_size(), kMostRecords);
  std::int64_t after = request.after_id();
  for (int read = 0; read < kMostRead && response.events_size() < page;) {
    SAE_ASSIGN_OR_RETURN(const auto records, core.ReadAudit(after, kMostRecords));
    if (records.empty()) return absl::OkStatus();
    read += static_cast<int>(records.size());
    for (const AuditRecord& record : records) {
      if (response.events_size() == page) break;
      after = record.id;
      if (!request.principal().empty() && record.principal != request.principal()) continue;
      if (!request.method().empty() && record.method != request.method()) continue;
      auto* event = response.add_events();
      event->set_id(record.id);
      *event->mutable_time() = ToTimestamp(record.time);
      event->set_principal(record.principal);
      event->set_role(record.role);
      event->set_method(record.method);
      event->set_resource(record.resource);
      event->set_request_id(record.request_id);
      event->set_code(record.code);
      event->set_peer(record.peer);
    }
  }
  response.set_next_after_id(after);
  return absl::OkStatus();
}

}  // namespace sae::server
