#include "client/cli/api.h"

#include <grpcpp/create_channel.h>

#include "client/cli/error_report.h"
#include "proto/convert/channel_options.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
using saeloom::v1::AuthService;
using saeloom::v1::FleetService;
using saeloom::v1::SweepService;
using saeloom::v1::TelemetryService;
using saeloom::v1::TrialService;

Api::Api(ApiOptions options) : options_(std::move(options)) {
  const auto connect = [this](ChannelUse use) {
    return grpc::CreateCustomChannel(options_.address.target, options_.channel,
                                     ClientChannelArguments(use));
  };
  control_ = connect(ChannelUse::kControl);
  stubs_ = {SweepService::NewStub(control_), TrialService::NewStub(control_),
            FleetService::NewStub(control_), TelemetryService::NewStub(control_),
            AuthService::NewStub(control_)};
  streams_ = TelemetryService::NewStub(connect(ChannelUse::kTelemetry));
}

absl::Status Api::ToStatus(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  // The coordinator's own errors carry details; gRPC's have none.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    const std::string at =
        absl::StrCat(options_.address.target, " (from ", options_.address.origin, ")");
    const std::string advice = ConnectionAdvice(options_.credentials, status.error_message());
    if (advice.empty()) {
      return absl::UnavailableError(
          absl::StrCat("no coordinator answers at ", at,
                       ": start one with `saeloom up`, or name another with --server HOST:PORT"));
    }
    absl::Status out = absl::UnavailableError("cannot talk to " + at);
    AttachHint(out, advice);
    return out;
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("the coordinator at ", options_.address.target, " gave no answer within ",
                     absl::FormatDuration(options_.timeout), ": raise --timeout"));
  }
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  absl::Status out(code, status.error_message().empty() ? absl::StatusCodeToString(code)
                                                        : status.error_message());
  AttachDetails(out, status.error_details());
  return out;
}

void Api::SetDeadline(grpc::ClientContext& context) const {
  // A deadline of the call, counted by gRPC itself; it has no place in logic that tests drive.
  context.set_deadline(gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC),
      gpr_time_from_millis(absl::ToInt64Milliseconds(options_.timeout), GPR_TIMESPAN)));
}

std::string Api::NextRequestId() {
  ++mutations_;
  if (options_.request_id.empty() || mutations_ == 1) return options_.request_id;
  return absl::StrCat(options_.request_id, "-", mutations_);
}

absl::StatusOr<saeloom::v1::Sweep> Api::GetSweep(const std::string& sweep) {
  saeloom::v1::GetSweepRequest request;
  request.set_name(SweepName(BareName(sweep)));
  return Call(&SweepService::StubInterface::GetSweep, request);
}

absl::StatusOr<std::vector<saeloom::v1::Sweep>> Api::ListSweeps(const std::string& filter,
                                                                int limit,
                                                                const std::string& order_by) {
  saeloom::v1::ListSweepsRequest request;
  request.set_parent("projects/default");
  request.set_filter(filter);
  request.set_order_by(order_by);
  return Pages<saeloom::v1::Sweep>(
      &SweepService::StubInterface::ListSweeps, request, limit,
      [](const auto& page) -> auto& { return page.sweeps(); });
}

absl::StatusOr<saeloom::v1::Trial> Api::GetTrial(const std::string& sweep,
                                                 const std::string& trial) {
  saeloom::v1::GetTrialRequest request;
  request.set_name(TrialName(BareName(sweep), trial));
  return Call(&TrialService::StubInterface::GetTrial, request);
}

absl::StatusOr<std::vector<saeloom::v1::Trial>> Api::ListTrials(const std::string& sweep,
                                                                const std::string& filter,
                                                                int limit,
                                                                const std::string& order_by) {
  saeloom::v1::ListTrialsRequest request;
  request.set_parent(SweepName(BareName(sweep)));
  request.set_filter(filter);
  request.set_order_by(order_by);
  SAE_ASSIGN_OR_RETURN(auto out, Pages<saeloom::v1::Trial>(
                                     &TrialService::StubInterface::ListTrials, request, limit,
                                     [](const auto& page) -> auto& { return page.trials(); }));
  if (!order_by.empty()) return out;
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::pair(a.name().size(), a.name()) < std::pair(b.name().size(), b.name());
  });
  return out;
}

absl::StatusOr<std::vector<saeloom::v1::Checkpoint>> Api::ListCheckpoints(
    const std::string& sweep, const std::string& trial) {
  saeloom::v1::ListCheckpointsRequest request;
  request.set_parent(TrialName(BareName(sweep), trial));
  SAE_ASSIGN_OR_RETURN(auto response, Call(&TrialService::StubInterface::ListCheckpoints, request));
  return std::vector<saeloom::v1::Checkpoint>(response.checkpoints().begin(),
                                              response.checkpoints().end());
}

absl::StatusOr<std::vector<saeloom::v1::Worker>> Api::ListWorkers(int limit) {
  return Pages<saeloom::v1::Worker>(
      &FleetService::StubInterface::ListWorkers, saeloom::v1::ListWorkersRequest(), limit,
      [](const auto& page) -> auto& { return page.workers(); });
}

absl::StatusOr<std::vector<double>> Api::QueryMetric(const std::string& trial_name,
                                                     const std::string& metric) {
  saeloom::v1::QueryMetricsRequest request;
  request.set_trial(trial_name);
  request.add_metrics(metric);
  SAE_ASSIGN_OR_RETURN(const auto response,
                       Call(&TelemetryService::StubInterface::QueryMetrics, request));
  std::vector<double> out;
  for (const auto& series : response.series()) {
    out.insert(out.end(), series.values().begin(), series.values().end());
  }
  return out;
}

std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> Api::WatchSweep(
    grpc::ClientContext& context, const saeloom::v1::WatchSweepRequest& request) {
  return streams_->WatchSweep(&context, request);
}

std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> Api::WatchSweep(
    grpc::ClientContext& context, const std::string& sweep, std::int64_t after_seq) {
  saeloom::v1::WatchSweepRequest request;
  request.set_name(SweepName(BareName(sweep)));
  request.set_after_seq(after_seq);
  return WatchSweep(context, request);
}

std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::LogChunk>> Api::TailLogs(
    grpc::ClientContext& context, const saeloom::v1::TailLogsRequest& request) {
  return streams_->TailLogs(&context, request);
}

}  // namespace sae::cli
