#include "server/service/fleet_service.h"

#include "server/service/core_calls.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {

SAE_UNARY(FleetService, ListWorkers, ListWorkersRequest, ListWorkersResponse)

}  // namespace sae::server
