#include "server/service/trial_service.h"

#include "server/service/core_calls.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {

SAE_UNARY(TrialService, GetTrial, GetTrialRequest, Trial)
SAE_UNARY(TrialService, ListTrials, ListTrialsRequest, ListTrialsResponse)
SAE_UNARY(TrialService, ListCheckpoints, ListCheckpointsRequest, ListCheckpointsResponse)

}  // namespace sae::server
