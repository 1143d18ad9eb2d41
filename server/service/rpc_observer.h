#pragma once
// Counting of calls. Thread-safe.

#include <string>
#include <utility>

#include "sae/base/clock.h"
#include "sae/base/status.h"

namespace sae::server {

/// Hears of every call.
class RpcObserver {
 public:
  virtual ~RpcObserver() = default;
  virtual void OnStarted(const std::string& /*service*/, const std::string& /*method*/) {}
  virtual void OnHandled(const std::string& /*service*/, const std::string& /*method*/,
                         absl::StatusCode /*code*/, absl::Duration /*took*/) {}
  /// A call that changes something, or that was refused.
  virtual void OnAudited(const std::string& /*method*/, absl::StatusCode /*code*/) {}
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
