#pragma once
// saeloom.v1.SweepService on the callback API: every handler posts to the core's thread and
// returns. Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/hubs.h"

namespace sae::server {

class SweepServiceImpl final : public saeloom::v1::SweepService::CallbackService {
 public:
  explicit SweepServiceImpl(ServiceContext& context) : context_(context) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;

  Reactor* CreateSweep(Context*, const saeloom::v1::CreateSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* GetSweep(Context*, const saeloom::v1::GetSweepRequest*, saeloom::v1::Sweep*) override;
  Reactor* ListSweeps(Context*, const saeloom::v1::ListSweepsRequest*,
                      saeloom::v1::ListSweepsResponse*) override;
  Reactor* CancelSweep(Context*, const saeloom::v1::CancelSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* PreviewSweep(Context*, const saeloom::v1::PreviewSweepRequest*,
                        saeloom::v1::SweepPlan*) override;
  Reactor* UpdateSweep(Context*, const saeloom::v1::UpdateSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* DeleteSweep(Context*, const saeloom::v1::DeleteSweepRequest*,
                       google::protobuf::Empty*) override;
  Reactor* PauseSweep(Context*, const saeloom::v1::PauseSweepRequest*,
                      saeloom::v1::Sweep*) override;
  Reactor* ResumeSweep(Context*, const saeloom::v1::ResumeSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* ForkSweep(Context*, const saeloom::v1::ForkSweepRequest*, saeloom::v1::Sweep*) override;
  Reactor* AddPoints(Context*, const saeloom::v1::AddPointsRequest*,
                     saeloom::v1::AddPointsResponse*) override;
  Reactor* RetryTrials(Context*, const saeloom::v1::RetryTrialsRequest*,
                       saeloom::v1::RetryTrialsResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
