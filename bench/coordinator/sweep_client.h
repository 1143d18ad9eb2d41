#pragma once
// Submits and reads sweeps, as a person's client does. Every call has a deadline. Thread-safe.

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::bench {

class SweepClient {
 public:
  explicit SweepClient(const std::string& address);
  /// A sweep of about `trials` points.
  [[nodiscard]] grpc::Status Submit(const std::string& name, int trials);
  /// Waits for the connection.
  [[nodiscard]] grpc::Status Get(const std::string& name, saeloom::v1::Sweep& sweep);

 private:
  std::unique_ptr<saeloom::v1::SweepService::Stub> sweeps_;
};

}  // namespace sae::bench
