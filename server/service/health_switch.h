#pragma once
// What grpc.health.v1 says of the server: serving as long as the store takes writes. Thread-safe.

#include <grpcpp/health_check_service_interface.h>

#include "sae/base/mutex.h"

namespace sae::server {

class HealthSwitch {
 public:
  /// `service` may be null; it lives until Unbind.
  void Bind(grpc::HealthCheckServiceInterface* service) {
    MutexLock lock(mu_);
    service_ = service;
    serving_ = true;
  }
  void Set(bool serving) {
    MutexLock lock(mu_);
    if (service_ == nullptr || serving == serving_) return;
    serving_ = serving;
    service_->SetServingStatus(serving);
  }
  /// Not serving any more, whatever is set later.
  void Unbind() {
    MutexLock lock(mu_);
    if (service_ != nullptr) service_->SetServingStatus(false);
    service_ = nullptr;
  }

 private:
  Mutex mu_;
  grpc::HealthCheckServiceInterface* service_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool serving_ ABSL_GUARDED_BY(mu_) = true;
};

}  // namespace sae::server
