#include "server/service/call_facts.h"

#include "absl/strings/match.h"

#include "proto/transport/credentials.h"
#include "server/service/request_facts.h"

namespace sae::server {

CallFacts FactsOf(const grpc::ServerContextBase& rpc, const char* service, const char* method,
                  const google::protobuf::Message* request, const std::string& trust_domain) {
  CallFacts facts;
  facts.service = service;
  facts.method = method;
  facts.peer = rpc.peer();
  const auto authorization = rpc.client_metadata().find("authorization");
  if (authorization != rpc.client_metadata().end()) {
    const std::string value(authorization->second.data(), authorization->second.size());
    if (absl::StartsWithIgnoreCase(value, "bearer ")) facts.bearer = value.substr(7);
  }
  if (const auto peer = rpc.auth_context(); peer != nullptr) {
    if (const auto worker = WorkerOfPeer(*peer, trust_domain)) facts.worker = worker->name;
  }
  if (request != nullptr) {
    RequestFacts read = ReadRequest(*request);
    facts.bytes = request->ByteSizeLong();
    facts.resource = std::move(read.resource);
    facts.request_id = std::move(read.request_id);
    facts.dry_run = read.dry_run;
  }
  return facts;
}

}  // namespace sae::server
