#pragma once
// Between the API's messages and the core's structs. Pure functions.

#include <string>
#include <utility>

#include "saeloom/v1/sweep_service.pb.h"
#include "saeloom/v1/worker_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

google::protobuf::Timestamp ToTimestamp(absl::Time time);

/// "projects/default/sweeps/S" or "S" -> "S". INVALID_ARGUMENT, naming `field`, for anything else.
[[nodiscard]] absl::StatusOr<std::string> ParseSweepName(const std::string& name,
                                                         const std::string& field);
/// "projects/default/sweeps/S/trials/T" or "S/T" -> {S, T}.
[[nodiscard]] absl::StatusOr<std::pair<std::string, std::string>> ParseTrialName(
    const std::string& name, const std::string& field);

saeloom::v1::Sweep SweepToProto(const SweepRecord& sweep, std::int64_t head);
/// Without attempts and log tail: those are for GetTrial.
saeloom::v1::Trial TrialToProto(const SweepRecord& sweep, const TrialRecord& trial,
                                const std::string& reason, const Progress& progress);
void AddDetails(const TrialRecord& trial, saeloom::v1::Trial& proto);
saeloom::v1::Checkpoint CheckpointToProto(const SweepRecord& sweep, const TrialRecord& trial,
                                          const CheckpointRecord& checkpoint);
saeloom::v1::SweepEvent EventToProto(const LogEvent& event);
saeloom::v1::QueryMetricsResponse SeriesToProto(const std::vector<MetricSeries>& series);

RegisterRequest FromProto(const saeloom::v1::RegisterRequest& proto);
saeloom::v1::RegisterResponse ToProto(const RegisterReply& reply);
HeartbeatRequest FromProto(const saeloom::v1::WorkerMessage& proto);
saeloom::v1::Command ToProto(const Command& command);
ReportRequest FromProto(const saeloom::v1::ReportBatchRequest& proto);

}  // namespace sae::server
