#pragma once
// The calls of AuthService as functions of the core and the table of tokens. On the core's thread.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/auth/principal.h"
#include "server/auth/token.h"
#include "server/auth/token_table.h"
#include "server/core/core.h"

namespace sae::server {

[[nodiscard]] absl::Status CreateToken(Core& core, TokenTable& tokens, const Entropy& entropy,
                                       const saeloom::v1::CreateTokenRequest& request,
                                       saeloom::v1::CreateTokenResponse& response);
[[nodiscard]] absl::Status ListTokens(const TokenTable& tokens,
                                      saeloom::v1::ListTokensResponse& response);
[[nodiscard]] absl::Status RevokeToken(Core& core, TokenTable& tokens,
                                       const saeloom::v1::RevokeTokenRequest& request,
                                       saeloom::v1::Token& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::WhoAmIRequest& request,
                                  saeloom::v1::WhoAmIResponse& response, const Principal& caller);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ListAuditEventsRequest& request,
                                  saeloom::v1::ListAuditEventsResponse& response);

}  // namespace sae::server
