#include "server/service/sweep_service.h"

#include "server/service/core_calls.h"
#include "server/service/fork.h"
#include "server/service/lifecycle_handlers.h"
#include "server/service/list_handlers.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kSweepService[] = "saeloom.v1.SweepService";
}  // namespace

SweepServiceImpl::Reactor* SweepServiceImpl::CreateSweep(Context* rpc,
                                                         const v1::CreateSweepRequest* request,
                                                         v1::Sweep* response) {
  const BegunCall begun = BeginCall(context_, *rpc, kSweepService, "CreateSweep", *request);
  if (begun.admitted == nullptr) return begun.call;
  Coordinator& coordinator = context_.coordinator;
  Gate& gate = context_.gate;
  coordinator.PostSlow([&coordinator, &gate, request, response, begun] {
    // Shared because std::function must be copyable; it may be large.
    auto prepared = std::make_shared<absl::StatusOr<PreparedSweep>>(
        PrepareCreate(*request, coordinator.options().core.max_trials));
    if (prepared->ok()) (*prepared)->event.owner = begun.admitted->caller.name;
    coordinator.Post([&coordinator, &gate, request, prepared, response, begun](Core& core) {
      const auto handle = [&] {
        return prepared->ok() ? HandleCreate(core, *request, **prepared, *response)
                              : prepared->status();
      };
      AnswerWhenDurable(coordinator, begun.call, gate.Run(core, *begun.admitted, handle));
    });
  });
  return begun.call;
}

SAE_UNARY(SweepService, GetSweep, GetSweepRequest, Sweep)
SAE_UNARY(SweepService, ListSweeps, ListSweepsRequest, ListSweepsResponse)
SAE_UNARY(SweepService, CancelSweep, CancelSweepRequest, Sweep)
SAE_UNARY(SweepService, UpdateSweep, UpdateSweepRequest, Sweep)
SAE_UNARY(SweepService, PauseSweep, PauseSweepRequest, Sweep)
SAE_UNARY(SweepService, ResumeSweep, ResumeSweepRequest, Sweep)
SAE_UNARY(SweepService, RetryTrials, RetryTrialsRequest, RetryTrialsResponse)

SweepServiceImpl::Reactor* SweepServiceImpl::DeleteSweep(Context* rpc,
                                                         const v1::DeleteSweepRequest* request,
                                                         google::protobuf::Empty* response) {
  return AnswerOnCore(
      context_, *rpc, kSweepService, "DeleteSweep", *request,
      [=](Core& core, const Principal&) { return Handle(core, *request, *response); });
}

SweepServiceImpl::Reactor* SweepServiceImpl::PreviewSweep(Context* rpc,
                                                          const v1::PreviewSweepRequest* request,
                                                          v1::SweepPlan* response) {
  const std::size_t most = context_.coordinator.options().core.max_trials;
  CallSteps<PreparedSweep> steps;
  steps.prepare = [=](PreparedSweep& prepared) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(prepared, PreparePreview(*request, most, *response));
    return absl::OkStatus();
  };
  steps.handle = [=](Core& core, const PreparedSweep& prepared, const Principal&) {
    return HandlePreview(core, prepared, *response);
  };
  return AnswerInSteps(context_, *rpc, kSweepService, "PreviewSweep", *request, std::move(steps));
}

SweepServiceImpl::Reactor* SweepServiceImpl::ForkSweep(Context* rpc,
                                                       const v1::ForkSweepRequest* request,
                                                       v1::Sweep* response) {
  struct Fork {
    ForkSource source;
    PreparedSweep prepared;
    std::string made;  ///< by the same request before
  };
  const std::size_t most = context_.coordinator.options().core.max_trials;
  CallSteps<Fork> steps;
  steps.look = [=](Core& core, Fork& fork) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(fork.made, MadeByFork(core, *request));
    if (!fork.made.empty()) return absl::OkStatus();
    SAE_ASSIGN_OR_RETURN(fork.source, LookUpFork(core, request->source()));
    return absl::OkStatus();
  };
  steps.prepare = [=](Fork& fork) -> absl::Status {
    if (!fork.made.empty()) return absl::OkStatus();
    SAE_ASSIGN_OR_RETURN(fork.prepared, PrepareFork(*request, fork.source, most));
    return absl::OkStatus();
  };
  steps.handle = [=](Core& core, Fork& fork, const Principal& caller) {
    fork.prepared.event.owner = caller.name;
    return HandleFork(core, *request, fork.prepared, *response);
  };
  return AnswerInSteps(context_, *rpc, kSweepService, "ForkSweep", *request, std::move(steps));
}

SweepServiceImpl::Reactor* SweepServiceImpl::AddPoints(Context* rpc,
                                                       const v1::AddPointsRequest* request,
                                                       v1::AddPointsResponse* response) {
  const std::size_t most = context_.coordinator.options().core.max_trials;
  CallSteps<Addition> steps;
  steps.look = [=](Core& core, Addition& addition) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(addition, LookUpAddition(core, *request));
    return absl::OkStatus();
  };
  steps.prepare = [=](Addition& addition) { return PreparePoints(*request, most, addition); };
  steps.handle = [=](Core& core, const Addition& addition, const Principal&) {
    return HandleAddPoints(core, *request, addition, *response);
  };
  return AnswerInSteps(context_, *rpc, kSweepService, "AddPoints", *request, std::move(steps));
}

}  // namespace sae::server
