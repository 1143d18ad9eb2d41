#include "server/service/trial_service.h"

#include "server/service/checkpoint_handlers.h"
#include "server/service/core_calls.h"
#include "server/service/lifecycle_handlers.h"
#include "server/service/list_handlers.h"
#include "server/service/read_ahead.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {

void ReadThen(Coordinator& coordinator, ReadAhead reading, std::function<void(Core&)> then) {
  coordinator.Post([&coordinator, reading, then = std::move(then)](Core& core) mutable {
    if (ReadSome(core, coordinator.clock(), reading)) return then(core);
    ReadThen(coordinator, std::move(reading), std::move(then));
  });
}

/// As AnswerOnCore, once the values of all trials of the sweep `parent` were read.
template <typename Request, typename Response>
grpc::ServerUnaryReactor* AnswerAfterReading(ServiceContext& context,
                                             const grpc::CallbackServerContext& rpc,
                                             const char* method, const Request* request,
                                             Response* response) {
  const BegunCall begun = BeginCall(context, rpc, "saeloom.v1.TrialService", method, *request);
  if (begun.admitted == nullptr) return begun.call;
  ReadThen(context.coordinator, {SweepOfResource(request->parent()), 0},
           [&context, begun, request, response](Core& core) {
             AnswerWhenDurable(context.coordinator, begun.call,
                               context.gate.Run(core, *begun.admitted,
                                                [&] { return Handle(core, *request, *response); }));
           });
  return begun.call;
}

}  // namespace

SAE_UNARY(TrialService, GetTrial, GetTrialRequest, Trial)
SAE_UNARY(TrialService, PauseTrial, PauseTrialRequest, Trial)
SAE_UNARY(TrialService, ResumeTrial, ResumeTrialRequest, Trial)
SAE_UNARY(TrialService, StopTrial, StopTrialRequest, Trial)
SAE_UNARY(TrialService, PromoteTrial, PromoteTrialRequest, Trial)
SAE_UNARY(TrialService, ListAttempts, ListAttemptsRequest, ListAttemptsResponse)
SAE_UNARY(TrialService, ListCheckpoints, ListCheckpointsRequest, ListCheckpointsResponse)
SAE_UNARY(TrialService, ProtectCheckpoint, ProtectCheckpointRequest, Checkpoint)
SAE_UNARY(TrialService, CollectCheckpoints, CollectCheckpointsRequest, CollectCheckpointsResponse)

TrialServiceImpl::Reactor* TrialServiceImpl::ListTrials(
    Context* rpc, const saeloom::v1::ListTrialsRequest* request,
    saeloom::v1::ListTrialsResponse* response) {
  if (OrdersByMetric(*request))
    return AnswerAfterReading(context_, *rpc, "ListTrials", request, response);
  return AnswerOnCore(
      context_, *rpc, "saeloom.v1.TrialService", "ListTrials", *request,
      [=](Core& core, const Principal&) { return Handle(core, *request, *response); });
}

TrialServiceImpl::Reactor* TrialServiceImpl::GetPareto(Context* rpc,
                                                       const saeloom::v1::GetParetoRequest* request,
                                                       saeloom::v1::GetParetoResponse* response) {
  return AnswerAfterReading(context_, *rpc, "GetPareto", request, response);
}

}  // namespace sae::server
