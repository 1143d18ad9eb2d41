#include "server/service/telemetry_service.h"

#include "server/service/convert.h"
#include "server/service/core_calls.h"
#include "server/service/open_stream.h"
#include "server/service/stream_writer.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kTelemetryService[] = "saeloom.v1.TelemetryService";

/// Lets a stream through, or ends it. What `gone` holds lives as long as the stream.
template <typename Writer>
bool Open(ServiceContext& context, const grpc::CallbackServerContext& rpc, const char* method,
          const google::protobuf::Message& request, const std::shared_ptr<Writer>& writer,
          StreamTicket& ticket) {
  const absl::Status status = OpenStream(
      context, FactsOf(rpc, kTelemetryService, method, &request, context.trust_domain),
      [weak = std::weak_ptr<Writer>(writer)](const absl::Status& why) {
        if (const auto out = weak.lock()) out->End(why);
      },
      ticket);
  if (!status.ok()) writer->End(status);
  return status.ok();
}
}  // namespace

TelemetryServiceImpl::Stream<grpc::ByteBuffer>* TelemetryServiceImpl::WatchSweep(
    Context* rpc, const grpc::ByteBuffer* bytes) {
  Coordinator& coordinator = context_.coordinator;
  WatchHub& hub = context_.hubs.watch;
  const std::int64_t id = context_.next_stream++;
  const RpcCall call(&context_.rpcs, coordinator.clock(), kTelemetryService, "WatchSweep");
  const auto ticket = std::make_shared<StreamTicket>();
  const auto writer = StreamWriter<SharedBytes, grpc::ByteBuffer>::Make(
      [&coordinator, &hub, id] { coordinator.Post([&hub, id](Core&) { hub.Hungry(id); }); },
      [&coordinator, &hub, id, call, ticket](grpc::StatusCode code) {
        ticket->Close();
        call.Handled(static_cast<absl::StatusCode>(code));
        coordinator.Post([&hub, id](Core&) { hub.Remove(id); });
      });
  v1::WatchSweepRequest request;
  grpc::ByteBuffer copy(*bytes);  // reading takes it apart
  if (!grpc::SerializationTraits<v1::WatchSweepRequest>::Deserialize(&copy, &request).ok()) {
    writer->End(absl::InvalidArgumentError("WatchSweep: the request is no WatchSweepRequest"));
    return writer.get();
  }
  if (!Open(context_, *rpc, "WatchSweep", request, writer, *ticket)) return writer.get();
  auto filter = ParseWatch(request);
  if (!filter.ok()) {
    writer->End(filter.status());
    return writer.get();
  }
  coordinator.Post([&hub, id, writer, filter = *std::move(filter)](Core& core) {
    hub.Add(core, id, filter, writer);
  });
  return writer.get();
}

TelemetryServiceImpl::Stream<v1::LogChunk>* TelemetryServiceImpl::TailLogs(
    Context* rpc, const v1::TailLogsRequest* request) {
  Coordinator& coordinator = context_.coordinator;
  LogBroker& hub = context_.hubs.logs;
  const std::int64_t id = context_.next_stream++;
  const RpcCall call(&context_.rpcs, coordinator.clock(), kTelemetryService, "TailLogs");
  const auto ticket = std::make_shared<StreamTicket>();
  const auto writer = StreamWriter<v1::LogChunk>::Make(
      [&coordinator, &hub, id] { coordinator.Post([&hub, id](Core&) { hub.Hungry(id); }); },
      [&coordinator, &hub, id, call, ticket](grpc::StatusCode code) {
        ticket->Close();
        call.Handled(static_cast<absl::StatusCode>(code));
        coordinator.Post([&hub, id](Core& core) { hub.Remove(core, id); });
      });
  if (!Open(context_, *rpc, "TailLogs", *request, writer, *ticket)) return writer.get();
  coordinator.Post(
      [&hub, id, writer, request = *request](Core& core) { hub.Add(core, id, request, writer); });
  return writer.get();
}

SAE_UNARY(TelemetryService, QueryMetrics, QueryMetricsRequest, QueryMetricsResponse)

}  // namespace sae::server
