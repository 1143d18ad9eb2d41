#pragma once
// The coordinator as the verbs use it: calls with deadlines, whole lists instead of pages,
// absl::Status with a remedy instead of grpc::Status. Owns its channels. Thread-safe as gRPC stubs
// are.

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "client/cli/address.h"
#include "sae/base/status.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::cli {

class Api {
 public:
  Api(Address address, absl::Duration timeout);

  [[nodiscard]] absl::StatusOr<saeloom::v1::Sweep> CreateSweep(
      const saeloom::v1::CreateSweepRequest& request);
  [[nodiscard]] absl::StatusOr<saeloom::v1::Sweep> GetSweep(const std::string& sweep);
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Sweep>> ListSweeps();
  [[nodiscard]] absl::StatusOr<saeloom::v1::Sweep> CancelSweep(const std::string& sweep);
  [[nodiscard]] absl::StatusOr<saeloom::v1::Trial> GetTrial(const std::string& sweep,
                                                            const std::string& trial);
  /// In the order of their names.
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Trial>> ListTrials(
      const std::string& sweep);
  [[nodiscard]] absl::StatusOr<saeloom::v1::RetryTrialsResponse> RetryTrials(
      const std::string& sweep, const std::vector<std::string>& trials);
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Checkpoint>> ListCheckpoints(
      const std::string& sweep, const std::string& trial);
  [[nodiscard]] absl::StatusOr<saeloom::v1::ListWorkersResponse> ListWorkers();
  /// One metric of one trial, over its effective curve.
  [[nodiscard]] absl::StatusOr<std::vector<double>> QueryMetric(const std::string& trial_name,
                                                                const std::string& metric);

  /// Streams have no deadline; the caller ends one by context.TryCancel().
  std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> WatchSweep(
      grpc::ClientContext& context, const std::string& sweep, std::int64_t after_seq);
  std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::LogChunk>> TailLogs(
      grpc::ClientContext& context, const saeloom::v1::TailLogsRequest& request);

  /// Codes are the same numbers; UNAVAILABLE says which address and how to start a coordinator.
  absl::Status ToStatus(const grpc::Status& status) const;
  const Address& address() const { return address_; }

 private:
  template <class Stub, class Request, class Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request);

  Address address_;
  absl::Duration timeout_;
  std::unique_ptr<saeloom::v1::SweepService::StubInterface> sweeps_;
  std::unique_ptr<saeloom::v1::TrialService::StubInterface> trials_;
  std::unique_ptr<saeloom::v1::FleetService::StubInterface> fleet_;
  std::unique_ptr<saeloom::v1::TelemetryService::StubInterface> telemetry_;  ///< streams
  std::unique_ptr<saeloom::v1::TelemetryService::StubInterface> queries_;
};

/// "SWEEP/TRIAL" (or resource names) -> its two bare parts; INVALID_ARGUMENT when `text` has not
/// both.
struct TrialReference {
  std::string sweep;
  std::string trial;
};
[[nodiscard]] absl::StatusOr<TrialReference> ParseTrialReference(const std::string& text);

}  // namespace sae::cli
