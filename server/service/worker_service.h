#pragma once
// saeloom.v1.WorkerService on the callback API. Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/worker_service.grpc.pb.h"
#include "server/service/hubs.h"

namespace sae::server {

class WorkerServiceImpl final : public saeloom::v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext*,
                                     const saeloom::v1::RegisterRequest*,
                                     saeloom::v1::RegisterResponse*) override;
  grpc::ServerBidiReactor<saeloom::v1::WorkerMessage, saeloom::v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext*) override;
  grpc::ServerUnaryReactor* ReportBatch(grpc::CallbackServerContext*,
                                        const saeloom::v1::ReportBatchRequest*,
                                        saeloom::v1::ReportBatchResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
