#pragma once
// What every handler needs: statuses across gRPC's border, and counting of calls. Pure, or
// thread-safe.

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include "sae/base/status.h"
#include "server/runtime/coordinator.h"

namespace sae::server {

/// absl's and gRPC's canonical codes have the same numbers.
inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), Message(status)};
}

/// Hears of every call. Thread-safe.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  virtual void OnStarted(const std::string& /*service*/, const std::string& /*method*/) {}
  virtual void OnHandled(const std::string& /*service*/, const std::string& /*method*/,
                         absl::StatusCode /*code*/, absl::Duration /*took*/) {}
};

/// One call, counted from here to Handled().
class RpcCall {
 public:
  RpcCall(RpcObserver* observer, Clock& clock, std::string service, std::string method)
      : observer_(observer),
        clock_(clock),
        service_(std::move(service)),
        method_(std::move(method)),
        start_(clock.SinceBoot()) {
    observer_->OnStarted(service_, method_);
  }
  void Handled(absl::StatusCode code) const {
    observer_->OnHandled(service_, method_, code, clock_.SinceBoot() - start_);
  }

 private:
  RpcObserver* observer_;
  Clock& clock_;
  std::string service_;
  std::string method_;
  absl::Duration start_;
};

}  // namespace sae::server
