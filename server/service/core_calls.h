#pragma once
// Unary calls that the core's thread answers: shared by the services on the callback API. Include
// it only in files of the gRPC glue (server/CMakeLists.txt says which and why).

#include <functional>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "server/service/hubs.h"
#include "server/service/unary_call.h"

namespace sae::server {

/// Answers with what `handle` returns, from the core's thread. Thread-safe.
inline grpc::ServerUnaryReactor* AnswerOnCore(ServiceContext& context, const char* service,
                                              const char* method,
                                              std::function<absl::Status(Core&)> handle) {
  auto* call = new UnaryCall({&context.rpcs, context.coordinator.clock(), service, method});
  context.coordinator.Post(
      [call, handle = std::move(handle)](Core& core) { call->Answer(handle(core)); });
  return call;
}

}  // namespace sae::server

/// The method of a service whose handler is Handle(core, request, response).
#define SAE_UNARY(Service, Method, Request, Response)                                    \
  Service##Impl::Reactor* Service##Impl::Method(Context*, const saeloom::v1::Request* q, \
                                                saeloom::v1::Response* r) {              \
    return AnswerOnCore(context_, "saeloom.v1." #Service, #Method,                       \
                        [=](Core& core) { return Handle(core, *q, *r); });               \
  }
