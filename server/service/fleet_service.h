#pragma once
// saeloom.v1.FleetService on the callback API: every handler posts to the core's thread and
// returns. Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/hubs.h"

namespace sae::server {

class FleetServiceImpl final : public saeloom::v1::FleetService::CallbackService {
 public:
  explicit FleetServiceImpl(ServiceContext& context) : context_(context) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* ListWorkers(Context*, const saeloom::v1::ListWorkersRequest*,
                       saeloom::v1::ListWorkersResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
