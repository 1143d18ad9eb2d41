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
  Reactor* PauseTrial(Context*, const saeloom::v1::PauseTrialRequest*,
                      saeloom::v1::Trial*) override;
  Reactor* ResumeTrial(Context*, const saeloom::v1::ResumeTrialRequest*,
                       saeloom::v1::Trial*) override;
  Reactor* StopTrial(Context*, const saeloom::v1::StopTrialRequest*, saeloom::v1::Trial*) override;
  Reactor* PromoteTrial(Context*, const saeloom::v1::PromoteTrialRequest*,
                        saeloom::v1::Trial*) override;
  Reactor* ListAttempts(Context*, const saeloom::v1::ListAttemptsRequest*,
                        saeloom::v1::ListAttemptsResponse*) override;
  Reactor* GetPareto(Context*, const saeloom::v1::GetParetoRequest*,
                     saeloom::v1::GetParetoResponse*) override;
  Reactor* ListCheckpoints(Context*, const saeloom::v1::ListCheckpointsRequest*,
                           saeloom::v1::ListCheckpointsResponse*) override;
  Reactor* ProtectCheckpoint(Context*, const saeloom::v1::ProtectCheckpointRequest*,
                             saeloom::v1::Checkpoint*) override;
  Reactor* CollectCheckpoints(Context*, const saeloom::v1::CollectCheckpointsRequest*,
                              saeloom::v1::CollectCheckpointsResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
