#pragma once
// saeloom.v1.AuthService on the callback API: every handler posts to the core's thread and returns.
// Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/auth/token.h"
#include "server/service/hubs.h"

namespace sae::server {

class AuthServiceImpl final : public saeloom::v1::AuthService::CallbackService {
 public:
  AuthServiceImpl(ServiceContext& context, Entropy entropy)
      : context_(context), entropy_(std::move(entropy)) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* CreateToken(Context*, const saeloom::v1::CreateTokenRequest*,
                       saeloom::v1::CreateTokenResponse*) override;
  Reactor* ListTokens(Context*, const saeloom::v1::ListTokensRequest*,
                      saeloom::v1::ListTokensResponse*) override;
  Reactor* RevokeToken(Context*, const saeloom::v1::RevokeTokenRequest*,
                       saeloom::v1::Token*) override;
  Reactor* WhoAmI(Context*, const saeloom::v1::WhoAmIRequest*,
                  saeloom::v1::WhoAmIResponse*) override;
  Reactor* ListAuditEvents(Context*, const saeloom::v1::ListAuditEventsRequest*,
                           saeloom::v1::ListAuditEventsResponse*) override;

 private:
  ServiceContext& context_;
  const Entropy entropy_;
};

}  // namespace sae::server
