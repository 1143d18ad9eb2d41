#include "server/service/telemetry_service.h"

#include "server/service/convert.h"
#include "server/service/core_calls.h"
#include "server/service/stream_writer.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kService[] = "saeloom.v1.TelemetryService";
}  // namespace

TelemetryServiceImpl::Stream<v1::SweepEvent>* TelemetryServiceImpl::WatchSweep(
    Context*, const v1::WatchSweepRequest* request) {
  Coordinator& coordinator = context_.coordinator;
  WatchHub& hub = context_.hubs.watch;
  const std::int64_t id = context_.next_stream++;
  const RpcCall call(&context_.rpcs, coordinator.clock(), kService, "WatchSweep");
  const auto writer = StreamWriter<v1::SweepEvent>::Make(
      [&coordinator, &hub, id] { coordinator.Post([&hub, id](Core&) { hub.Hungry(id); }); },
      [&coordinator, &hub, id, call](grpc::StatusCode code) {
        call.Handled(static_cast<absl::StatusCode>(code));
        coordinator.Post([&hub, id](Core&) { hub.Remove(id); });
      });
  coordinator.Post([&hub, id, writer, request = *request](Core& core) {
    const auto sweep = ParseSweepName(request.name(), "name");
    if (!sweep.ok()) return writer->End(sweep.status());
    hub.Add(core, id, *sweep, request.after_seq(), writer);
  });
  return writer.get();
}

TelemetryServiceImpl::Stream<v1::LogChunk>* TelemetryServiceImpl::TailLogs(
    Context*, const v1::TailLogsRequest* request) {
  Coordinator& coordinator = context_.coordinator;
  LogBroker& hub = context_.hubs.logs;
  const std::int64_t id = context_.next_stream++;
  const RpcCall call(&context_.rpcs, coordinator.clock(), kService, "TailLogs");
  const auto writer = StreamWriter<v1::LogChunk>::Make(
      [&coordinator, &hub, id] { coordinator.Post([&hub, id](Core&) { hub.Hungry(id); }); },
      [&coordinator, &hub, id, call](grpc::StatusCode code) {
        call.Handled(static_cast<absl::StatusCode>(code));
        coordinator.Post([&hub, id](Core& core) { hub.Remove(core, id); });
      });
  coordinator.Post(
      [&hub, id, writer, request = *request](Core& core) { hub.Add(core, id, request, writer); });
  return writer.get();
}

SAE_UNARY(TelemetryService, QueryMetrics, QueryMetricsRequest, QueryMetricsResponse)

}  // namespace sae::server
