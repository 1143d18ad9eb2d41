#pragma once
// How each sort of resource looks in a table. `now` is for ages. Pure.

#include "client/cli/print.h"
#include "saeloom/v1/sweep_service.pb.h"

namespace sae::cli {

Kind<saeloom::v1::Sweep> SweepKind(absl::Time now);
Kind<saeloom::v1::Trial> TrialKind();
Kind<saeloom::v1::Checkpoint> CheckpointKind(absl::Time now);
Kind<saeloom::v1::Worker> WorkerKind(absl::Time now);
Kind<saeloom::v1::Queue> QueueKind();
Kind<saeloom::v1::Token> TokenKind(absl::Time now);
Kind<saeloom::v1::ListAuditEventsResponse::AuditEvent> AuditKind(absl::Time now);

}  // namespace sae::cli
