#include "server/service/auth_service.h"

#include "server/service/auth_handlers.h"
#include "server/service/core_calls.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kAuthService[] = "saeloom.v1.AuthService";
}  // namespace

AuthServiceImpl::Reactor* AuthServiceImpl::CreateToken(Context* rpc,
                                                       const v1::CreateTokenRequest* request,
                                                       v1::CreateTokenResponse* response) {
  return AnswerOnCore(context_, *rpc, kAuthService, "CreateToken", *request,
                      [this, request, response](Core& core, const Principal&) {
                        return server::CreateToken(core, context_.gate.tokens(), entropy_, *request,
                                                   *response);
                      });
}

AuthServiceImpl::Reactor* AuthServiceImpl::ListTokens(Context* rpc,
                                                      const v1::ListTokensRequest* request,
                                                      v1::ListTokensResponse* response) {
  return AnswerOnCore(context_, *rpc, kAuthService, "ListTokens", *request,
                      [this, response](Core&, const Principal&) {
                        return server::ListTokens(context_.gate.tokens(), *response);
                      });
}

AuthServiceImpl::Reactor* AuthServiceImpl::RevokeToken(Context* rpc,
                                                       const v1::RevokeTokenRequest* request,
                                                       v1::Token* response) {
  return AnswerOnCore(context_, *rpc, kAuthService, "RevokeToken", *request,
                      [this, request, response](Core& core, const Principal&) {
                        return server::RevokeToken(core, context_.gate.tokens(), *request,
                                                   *response);
                      });
}

SAE_UNARY(AuthService, WhoAmI, WhoAmIRequest, WhoAmIResponse)
SAE_UNARY(AuthService, ListAuditEvents, ListAuditEventsRequest, ListAuditEventsResponse)

}  // namespace sae::server
