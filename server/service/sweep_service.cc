#include "server/service/sweep_service.h"

#include "server/service/core_calls.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kService[] = "saeloom.v1.SweepService";
}  // namespace

SweepServiceImpl::Reactor* SweepServiceImpl::CreateSweep(Context* rpc,
                                                         const v1::CreateSweepRequest* request,
                                                         v1::Sweep* response) {
  const BegunCall begun = BeginCall(context_, *rpc, kService, "CreateSweep", *request);
  if (begun.admitted == nullptr) return begun.call;
  Coordinator& coordinator = context_.coordinator;
  Gate& gate = context_.gate;
  coordinator.PostSlow([&coordinator, &gate, request, response, begun] {
    // Shared because std::function must be copyable; it may be large.
    auto prepared = std::make_shared<absl::StatusOr<PreparedSweep>>(
        PrepareCreate(*request, coordinator.options().core.max_trials));
    if (prepared->ok()) (*prepared)->event.owner = begun.admitted->caller.name;
    coordinator.Post([&gate, request, prepared, response, begun](Core& core) {
      begun.call->Answer(gate.Run(core, *begun.admitted, [&] {
        return prepared->ok() ? HandleCreate(core, *request, **prepared, *response)
                              : prepared->status();
      }));
    });
  });
  return begun.call;
}

SAE_UNARY(SweepService, GetSweep, GetSweepRequest, Sweep)
SAE_UNARY(SweepService, ListSweeps, ListSweepsRequest, ListSweepsResponse)
SAE_UNARY(SweepService, CancelSweep, CancelSweepRequest, Sweep)
SAE_UNARY(SweepService, RetryTrials, RetryTrialsRequest, RetryTrialsResponse)

}  // namespace sae::server
