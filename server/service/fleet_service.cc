#include "server/service/fleet_service.h"

#include "server/service/core_calls.h"
#include "server/service/fleet_handlers.h"

namespace sae::server {

SAE_UNARY(FleetService, ListWorkers, ListWorkersRequest, ListWorkersResponse)
SAE_UNARY(FleetService, GetWorker, GetWorkerRequest, Worker)
SAE_UNARY(FleetService, CordonWorker, CordonWorkerRequest, Worker)
SAE_UNARY(FleetService, UncordonWorker, UncordonWorkerRequest, Worker)
SAE_UNARY(FleetService, ListQueues, ListQueuesRequest, ListQueuesResponse)
SAE_UNARY(FleetService, UpdateQueue, UpdateQueueRequest, Queue)
SAE_UNARY(FleetService, GetAllocation, GetAllocationRequest, Allocation)
SAE_UNARY(FleetService, GetDebugInfo, GetDebugInfoRequest, DebugInfo)

}  // namespace sae::server
