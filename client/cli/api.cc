#include "client/cli/api.h"

#include <algorithm>

#include "absl/strings/match.h"
#include <grpcpp/create_channel.h>

#include "proto/convert/channel_options.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::FleetService;
using saeloom::v1::SweepService;
using saeloom::v1::TelemetryService;
using saeloom::v1::TrialService;

std::shared_ptr<grpc::Channel> Connect(const std::string& target, ChannelUse use) {
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(),
                                   ClientChannelArguments(use));
}

}  // namespace

Api::Api(Address address, absl::Duration timeout)
    : address_(std::move(address)), timeout_(timeout) {
  const auto control = Connect(address_.target, ChannelUse::kControl);
  sweeps_ = SweepService::NewStub(control);
  trials_ = TrialService::NewStub(control);
  fleet_ = FleetService::NewStub(control);
  queries_ = TelemetryService::NewStub(control);
  telemetry_ = TelemetryService::NewStub(Connect(address_.target, ChannelUse::kTelemetry));
}

absl::Status Api::ToStatus(const grpc::Status& status) const {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", address_.target, " (from ", address_.origin,
                     "): start one with `saeloom up`, or name another with --server HOST:PORT"));
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(
        absl::StrCat("the coordinator at ", address_.target, " gave no answer within ",
                     absl::FormatDuration(timeout_), ": raise --timeout"));
  }
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

template <class Stub, class Request, class Response>
absl::StatusOr<Response> Api::Call(Stub& stub,
                                   grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                const Request&, Response*),
                                   const Request& request) {
  grpc::ClientContext context;
  // A deadline of the call, counted by gRPC itself; it has no place in logic that tests drive.
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_millis(absl::ToInt64Milliseconds(timeout_), GPR_TIMESPAN)));
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return ToStatus(status);
  return response;
}

absl::StatusOr<saeloom::v1::Sweep> Api::CreateSweep(
    const saeloom::v1::CreateSweepRequest& request) {
  return Call(*sweeps_, &SweepService::StubInterface::CreateSweep, request);
}

absl::StatusOr<saeloom::v1::Sweep> Api::GetSweep(const std::string& sweep) {
  saeloom::v1::GetSweepRequest request;
  request.set_name(SweepName(BareName(sweep)));
  return Call(*sweeps_, &SweepService::StubInterface::GetSweep, request);
}

absl::StatusOr<std::vector<saeloom::v1::Sweep>> Api::ListSweeps() {
  saeloom::v1::ListSweepsRequest request;
  request.set_parent("projects/default");
  std::vector<saeloom::v1::Sweep> out;
  do {
    SAE_ASSIGN_OR_RETURN(auto page,
                         Call(*sweeps_, &SweepService::StubInterface::ListSweeps, request));
    out.insert(out.end(), page.sweeps().begin(), page.sweeps().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return out;
}

absl::StatusOr<saeloom::v1::Sweep> Api::CancelSweep(const std::string& sweep) {
  saeloom::v1::CancelSweepRequest request;
  request.set_name(SweepName(BareName(sweep)));
  return Call(*sweeps_, &SweepService::StubInterface::CancelSweep, request);
}

absl::StatusOr<saeloom::v1::Trial> Api::GetTrial(const std::string& sweep,
                                                 const std::string& trial) {
  saeloom::v1::GetTrialRequest request;
  request.set_name(TrialName(sweep, trial));
  return Call(*trials_, &TrialService::StubInterface::GetTrial, request);
}

absl::StatusOr<std::vector<saeloom::v1::Trial>> Api::ListTrials(const std::string& sweep) {
  saeloom::v1::ListTrialsRequest request;
  request.set_parent(SweepName(BareName(sweep)));
  std::vector<saeloom::v1::Trial> out;
  do {
    SAE_ASSIGN_OR_RETURN(auto page,
                         Call(*trials_, &TrialService::StubInterface::ListTrials, request));
    out.insert(out.end(), page.trials().begin(), page.trials().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::pair(a.name().size(), a.name()) < std::pair(b.name().size(), b.name());
  });
  return out;
}

absl::StatusOr<saeloom::v1::RetryTrialsResponse> Api::RetryTrials(
    const std::string& sweep, const std::vector<std::string>& trials) {
  saeloom::v1::RetryTrialsRequest request;
  request.set_parent(SweepName(BareName(sweep)));
  for (const std::string& t : trials) request.add_trials(t);
  return Call(*sweeps_, &SweepService::StubInterface::RetryTrials, request);
}

absl::StatusOr<std::vector<saeloom::v1::Checkpoint>> Api::ListCheckpoints(
    const std::string& sweep, const std::string& trial) {
  saeloom::v1::ListCheckpointsRequest request;
  request.set_parent(TrialName(BareName(sweep), trial));
  SAE_ASSIGN_OR_RETURN(auto response,
                       Call(*trials_, &TrialService::StubInterface::ListCheckpoints, request));
  return std::vector<saeloom::v1::Checkpoint>(response.checkpoints().begin(),
                                              response.checkpoints().end());
}

absl::StatusOr<saeloom::v1::ListWorkersResponse> Api::ListWorkers() {
  return Call(*fleet_, &FleetService::StubInterface::ListWorkers,
              saeloom::v1::ListWorkersRequest());
}

absl::StatusOr<std::vector<double>> Api::QueryMetric(const std::string& trial_name,
                                                     const std::string& metric) {
  saeloom::v1::QueryMetricsRequest request;
  request.set_trial(trial_name);
  request.add_metrics(metric);
  SAE_ASSIGN_OR_RETURN(const auto response,
                       Call(*queries_, &TelemetryService::StubInterface::QueryMetrics, request));
  std::vector<double> out;
  for (const auto& series : response.series()) {
    out.insert(out.end(), series.values().begin(), series.values().end());
  }
  return out;
}

std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> Api::WatchSweep(
    grpc::ClientContext& context, const std::string& sweep, std::int64_t after_seq) {
  saeloom::v1::WatchSweepRequest request;
  request.set_name(SweepName(BareName(sweep)));
  request.set_after_seq(after_seq);
  return telemetry_->WatchSweep(&context, request);
}

std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::LogChunk>> Api::TailLogs(
    grpc::ClientContext& context, const saeloom::v1::TailLogsRequest& request) {
  return telemetry_->TailLogs(&context, request);
}

absl::StatusOr<TrialReference> ParseTrialReference(const std::string& text) {
  static const std::string kPrefix = "projects/default/sweeps/";
  std::string rest = absl::StartsWith(text, kPrefix) ? text.substr(kPrefix.size()) : text;
  if (const std::size_t at = rest.find("/trials/"); at != std::string::npos) {
    rest = absl::StrCat(rest.substr(0, at), "/", rest.substr(at + 8));
  }
  const std::size_t slash = rest.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == rest.size() ||
      rest.find('/', slash + 1) != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not SWEEP/TRIAL, such as demo/0003"));
  }
  return TrialReference{rest.substr(0, slash), rest.substr(slash + 1)};
}

}  // namespace sae::cli
