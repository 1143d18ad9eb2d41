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
  template <typename T>
  using Stream = grpc::ServerWriteReactor<T>;

  Reactor* CreateSweep(Context*, const saeloom::v1::CreateSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* GetSweep(Context*, const saeloom::v1::GetSweepRequest*, saeloom::v1::Sweep*) override;
  Reactor* ListSweeps(Context*, const saeloom::v1::ListSweepsRequest*,
                      saeloom::v1::ListSweepsResponse*) override;
  Reactor* CancelSweep(Context*, const saeloom::v1::CancelSweepRequest*,
                       saeloom::v1::Sweep*) override;
  Reactor* GetTrial(Context*, const saeloom::v1::GetTrialRequest*, saeloom::v1::Trial*) override;
  Reactor* ListTrials(Context*, const saeloom::v1::ListTrialsRequest*,
                      saeloom::v1::ListTrialsResponse*) override;
  Reactor* RetryTrials(Context*, const saeloom::v1::RetryTrialsRequest*,
                       saeloom::v1::RetryTrialsResponse*) override;
  Reactor* ListCheckpoints(Context*, const saeloom::v1::ListCheckpointsRequest*,
                           saeloom::v1::ListCheckpointsResponse*) override;
  Reactor* QueryMetrics(Context*, const saeloom::v1::QueryMetricsRequest*,
                        saeloom::v1::QueryMetricsResponse*) override;
  Reactor* ListWorkers(Context*, const saeloom::v1::ListWorkersRequest*,
                       saeloom::v1::ListWorkersResponse*) override;
  Stream<saeloom::v1::SweepEvent>* WatchSweep(Context*,
                                              const saeloom::v1::WatchSweepRequest*) override;
  Stream<saeloom::v1::LogChunk>* TailLogs(Context*, const saeloom::v1::TailLogsRequest*) override;

 private:
  /// Answers with what `handle` returns, from the core's thread.
  Reactor* OnCore(const char* method, std::function<absl::Status(Core&)> handle);

  ServiceContext& context_;
};

}  // namespace sae::server
