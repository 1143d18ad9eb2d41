#pragma once
// What gRPC knows of a call, for the gate. Include it only in files of the gRPC glue
// (server/CMakeLists.txt says which and why). Pure.

#include <string>

#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>

#include "server/service/gate.h"

namespace sae::server {

/// `request` may be null: a stream of the client's.
CallFacts FactsOf(const grpc::ServerContextBase& rpc, const char* service, const char* method,
                  const google::protobuf::Message* request, const std::string& trust_domain);

}  // namespace sae::server
