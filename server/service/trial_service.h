#pragma once
// saeloom.v1.TrialService on the callback API: every handler posts to the core's thread and
// returns. Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/hubs.h"

namespace sae::server {

class TrialServiceImpl final : public saeloom::v1::TrialService::CallbackService {
 public:
  explicit TrialServiceImpl(ServiceContext& context) : context_(context) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* GetTrial(Context*, const saeloom::v1::GetTrialRequest*, saeloom::v1::Trial*) override;
  Reactor* ListTrials(Context*, const saeloom::v1::ListTrialsRequest*,
                      saeloom::v1::ListTrialsResponse*) override;
  Reactor* ListCheckpoints(Context*, const saeloom::v1::ListCheckpointsRequest*,
                           saeloom::v1::ListCheckpointsResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
