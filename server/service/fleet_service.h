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
  Reactor* GetWorker(Context*, const saeloom::v1::GetWorkerRequest*, saeloom::v1::Worker*) override;
  Reactor* CordonWorker(Context*, const saeloom::v1::CordonWorkerRequest*,
                        saeloom::v1::Worker*) override;
  Reactor* UncordonWorker(Context*, const saeloom::v1::UncordonWorkerRequest*,
                          saeloom::v1::Worker*) override;
  Reactor* ListQueues(Context*, const saeloom::v1::ListQueuesRequest*,
                      saeloom::v1::ListQueuesResponse*) override;
  Reactor* UpdateQueue(Context*, const saeloom::v1::UpdateQueueRequest*,
                       saeloom::v1::Queue*) override;
  Reactor* GetAllocation(Context*, const saeloom::v1::GetAllocationRequest*,
                         saeloom::v1::Allocation*) override;
  Reactor* GetDebugInfo(Context*, const saeloom::v1::GetDebugInfoRequest*,
                        saeloom::v1::DebugInfo*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
