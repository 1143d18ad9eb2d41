#pragma once
// The coordinator as the verbs use it: calls with deadlines, whole lists instead of pages,
// absl::Status with a remedy instead of grpc::Status. A call that changes something carries a
// request id and is repeated once, with the same id, when no answer came. Owns its channels.
// Thread-safe as gRPC stubs are, but for the numbering of request ids.

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/time/time.h"

#include "client/cli/address.h"
#include "proto/transport/credentials.h"
#include "sae/base/clock.h"
#include "sae/base/status.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::cli {

struct ApiOptions {
  Address address;
  absl::Duration timeout = absl::Seconds(10);  ///< of each unary call
  std::shared_ptr<grpc::ChannelCredentials> channel;
  ClientCredentialOptions credentials;  ///< that `channel` was made of; for advice
  Clock* clock = nullptr;               ///< borrowed; waits before a repeated call
  std::string request_id;               ///< of the first changing call; "" = none: not repeated
};

class Api {
 public:
  explicit Api(ApiOptions options);

  template <class Stub, class Request, class Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  template <class Stub, class Request, class Response>
  [[nodiscard]] absl::StatusOr<Response> Call(Method<Stub, Request, Response> method,
                                              const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    Response response;
    const grpc::Status status =
        (std::get<std::unique_ptr<Stub>>(stubs_).get()->*method)(&context, request, &response);
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  /// Call for what changes something; sets `request_id` where it is empty.
  template <class Stub, class Request, class Response>
  [[nodiscard]] absl::StatusOr<Response> Mutate(Method<Stub, Request, Response> method,
                                                Request request) {
    if (request.request_id().empty()) request.set_request_id(NextRequestId());
    auto response = Call(method, request);
    if (request.request_id().empty() || !absl::IsUnavailable(response.status())) return response;
    options_.clock->SleepFor(absl::Milliseconds(500));
    return Call(method, request);
  }

  /// Every page, or as many as give `limit` items (0 = all). `items(response)` is the repeated
  /// field.
  template <class Item, class Stub, class Request, class Response, class Items>
  [[nodiscard]] absl::StatusOr<std::vector<Item>> Pages(Method<Stub, Request, Response> method,
                                                        Request request, int limit, Items items) {
    std::vector<Item> out;
    do {
      if (limit > 0) request.set_page_size(limit - static_cast<int>(out.size()));
      SAE_ASSIGN_OR_RETURN(const Response page, Call(method, request));
      out.insert(out.end(), items(page).begin(), items(page).end());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty() && (limit == 0 || static_cast<int>(out.size()) < limit));
    if (limit > 0 && static_cast<int>(out.size()) > limit)
      out.resize(static_cast<std::size_t>(limit));
    return out;
  }

  [[nodiscard]] absl::StatusOr<saeloom::v1::Sweep> GetSweep(const std::string& sweep);
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Sweep>> ListSweeps(
      const std::string& filter = "", int limit = 0, const std::string& order_by = "");
  [[nodiscard]] absl::StatusOr<saeloom::v1::Trial> GetTrial(const std::string& sweep,
                                                            const std::string& trial);
  /// In the order of their names unless `order_by` says another.
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Trial>> ListTrials(
      const std::string& sweep, const std::string& filter = "", int limit = 0,
      const std::string& order_by = "");
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Checkpoint>> ListCheckpoints(
      const std::string& sweep, const std::string& trial);
  [[nodiscard]] absl::StatusOr<std::vector<saeloom::v1::Worker>> ListWorkers(int limit = 0);
  /// One metric of one trial, over its effective curve.
  [[nodiscard]] absl::StatusOr<std::vector<double>> QueryMetric(const std::string& trial_name,
                                                                const std::string& metric);
  /// "SERVING", "NOT_SERVING", ... of grpc.health.v1.
  [[nodiscard]] absl::StatusOr<std::string> CheckHealth();

  /// Streams have no deadline; the caller ends one by context.TryCancel().
  std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> WatchSweep(
      grpc::ClientContext& context, const saeloom::v1::WatchSweepRequest& request);
  std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::SweepEvent>> WatchSweep(
      grpc::ClientContext& context, const std::string& sweep, std::int64_t after_seq);
  std::unique_ptr<grpc::ClientReaderInterface<saeloom::v1::LogChunk>> TailLogs(
      grpc::ClientContext& context, const saeloom::v1::TailLogsRequest& request);

  /// Codes are the same numbers; UNAVAILABLE says which address and how to start a coordinator.
  absl::Status ToStatus(const grpc::Status& status) const;
  const Address& address() const { return options_.address; }
  Clock& clock() const { return *options_.clock; }

 private:
  void SetDeadline(grpc::ClientContext& context) const;
  /// The command's id, then that with -2, -3, ...: a repeated command has the same ones.
  std::string NextRequestId();

  ApiOptions options_;
  int mutations_ = 0;
  std::shared_ptr<grpc::Channel> control_;
  std::tuple<std::unique_ptr<saeloom::v1::SweepService::StubInterface>,
             std::unique_ptr<saeloom::v1::TrialService::StubInterface>,
             std::unique_ptr<saeloom::v1::FleetService::StubInterface>,
             std::unique_ptr<saeloom::v1::TelemetryService::StubInterface>,
             std::unique_ptr<saeloom::v1::AuthService::StubInterface>>
      stubs_;
  std::unique_ptr<saeloom::v1::TelemetryService::StubInterface> streams_;
};

}  // namespace sae::cli
