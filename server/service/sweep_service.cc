#include "server/service/sweep_service.h"

#include "server/service/convert.h"
#include "server/service/stream_writer.h"
#include "server/service/sweep_handlers.h"
#include "server/service/unary_call.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kService[] = "saeloom.v1.SweepService";
}  // namespace

SweepServiceImpl::Reactor* SweepServiceImpl::OnCore(const char* method,
                                                    std::function<absl::Status(Core&)> handle) {
  auto* call = new UnaryCall({&context_.rpcs, context_.coordinator.clock(), kService, method});
  context_.coordinator.Post(
      [call, handle = std::move(handle)](Core& core) { call->Answer(handle(core)); });
  return call;
}

SweepServiceImpl::Reactor* SweepServiceImpl::CreateSweep(Context*,
                                                         const v1::CreateSweepRequest* request,
                                                         v1::Sweep* response) {
  auto* call =
      new UnaryCall({&context_.rpcs, context_.coordinator.clock(), kService, "CreateSweep"});
  Coordinator& coordinator = context_.coordinator;
  coordinator.PostSlow([&coordinator, request, response, call] {
    // Shared because std::function must be copyable; it may be large.
    auto prepared = std::make_shared<absl::StatusOr<PreparedSweep>>(
        PrepareCreate(*request, coordinator.options().core.max_trials));
    if (!prepared->ok()) return call->Answer(prepared->status());
    coordinator.Post([request, response, prepared, call](Core& core) {
      call->Answer(HandleCreate(core, *request, **prepared, *response));
    });
  });
  return call;
}

#define SAE_UNARY(Method, Request, Response)                                                \
  SweepServiceImpl::Reactor* SweepServiceImpl::Method(Context*, const v1::Request* request, \
                                                      v1::Response* response) {             \
    return OnCore(#Method, [=](Core& core) { return Handle(core, *request, *response); });  \
  }
SAE_UNARY(GetSweep, GetSweepRequest, Sweep)
SAE_UNARY(ListSweeps, ListSweepsRequest, ListSweepsResponse)
SAE_UNARY(CancelSweep, CancelSweepRequest, Sweep)
SAE_UNARY(GetTrial, GetTrialRequest, Trial)
SAE_UNARY(ListTrials, ListTrialsRequest, ListTrialsResponse)
SAE_UNARY(RetryTrials, RetryTrialsRequest, RetryTrialsResponse)
SAE_UNARY(ListCheckpoints, ListCheckpointsRequest, ListCheckpointsResponse)
SAE_UNARY(QueryMetrics, QueryMetricsRequest, QueryMetricsResponse)
SAE_UNARY(ListWorkers, ListWorkersRequest, ListWorkersResponse)
#undef SAE_UNARY

SweepServiceImpl::Stream<v1::SweepEvent>* SweepServiceImpl::WatchSweep(
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

SweepServiceImpl::Stream<v1::LogChunk>* SweepServiceImpl::TailLogs(
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

}  // namespace sae::server
