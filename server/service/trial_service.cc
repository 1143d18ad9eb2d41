#include "server/service/trial_service.h"

#include "server/service/checkpoint_handlers.h"
#include "server/service/core_calls.h"
#include "server/service/lifecycle_handlers.h"
#include "server/service/list_handlers.h"
#include "server/service/sweep_handlers.h"

namespace sae::server {

SAE_UNARY(TrialService, GetTrial, GetTrialRequest, Trial)
SAE_UNARY(TrialService, ListTrials, ListTrialsRequest, ListTrialsResponse)
SAE_UNARY(TrialService, PauseTrial, PauseTrialRequest, Trial)
SAE_UNARY(TrialService, ResumeTrial, ResumeTrialRequest, Trial)
SAE_UNARY(TrialService, StopTrial, StopTrialRequest, Trial)
SAE_UNARY(TrialService, PromoteTrial, PromoteTrialRequest, Trial)
SAE_UNARY(TrialService, ListAttempts, ListAttemptsRequest, ListAttemptsResponse)
SAE_UNARY(TrialService, GetPareto, GetParetoRequest, GetParetoResponse)
SAE_UNARY(TrialService, ListCheckpoints, ListCheckpointsRequest, ListCheckpointsResponse)
SAE_UNARY(TrialService, ProtectCheckpoint, ProtectCheckpointRequest, Checkpoint)
SAE_UNARY(TrialService, CollectCheckpoints, CollectCheckpointsRequest, CollectCheckpointsResponse)

}  // namespace sae::server
