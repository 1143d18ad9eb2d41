#include "server/service/sweep_service.h"

#include "server/service/core_calls.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kService[] = "saeloom.v1.SweepService";
}  // namespace

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

SAE_UNARY(SweepService, GetSweep, GetSweepRequest, Sweep)
SAE_UNARY(SweepService, ListSweeps, ListSweepsRequest, ListSweepsResponse)
SAE_UNARY(SweepService, CancelSweep, CancelSweepRequest, Sweep)
SAE_UNARY(SweepService, RetryTrials, RetryTrialsRequest, RetryTrialsResponse)

}  // namespace sae::server
