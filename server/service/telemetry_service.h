#pragma once
// saeloom.v1.TelemetryService on the callback API: every handler posts to the core's thread and
// returns. Thread-safe.

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/hubs.h"

namespace sae::server {

/// WatchSweep in bytes: its events are serialised once for all streams.
using TelemetryCallbacks = saeloom::v1::TelemetryService::WithRawCallbackMethod_WatchSweep<
    saeloom::v1::TelemetryService::WithCallbackMethod_QueryMetrics<
        saeloom::v1::TelemetryService::WithCallbackMethod_TailLogs<
            saeloom::v1::TelemetryService::Service>>>;

class TelemetryServiceImpl final : public TelemetryCallbacks {
 public:
  explicit TelemetryServiceImpl(ServiceContext& context) : context_(context) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;
  template <typename T>
  using Stream = grpc::ServerWriteReactor<T>;

  Stream<grpc::ByteBuffer>* WatchSweep(Context*, const grpc::ByteBuffer*) override;
  Stream<saeloom::v1::LogChunk>* TailLogs(Context*, const saeloom::v1::TailLogsRequest*) override;
  Reactor* QueryMetrics(Context*, const saeloom::v1::QueryMetricsRequest*,
                        saeloom::v1::QueryMetricsResponse*) override;

 private:
  ServiceContext& context_;
};

}  // namespace sae::server
