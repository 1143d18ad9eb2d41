#pragma once
// The real coordinator and a worker on each host, without TLS unless a test says otherwise.

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "tests/multihost/gang_world.h"

namespace saeloom::multihost {

class ServiceWorld : public GangWorld {
 protected:
  static constexpr int kSteps = 2400;

  void StartService(int hosts, const std::string& lease);
  std::string CoordinatorOf(int) override { return address_; }
  /// Again after a kill: on the same address, with the same data.
  void StartCoordinator();
  /// What makes it listen beyond loopback.
  virtual std::vector<std::string> CoordinatorSecurity() { return {"--insecure-bind-anywhere"}; }
  /// Of this test's own calls, once the coordinator listens.
  virtual std::shared_ptr<grpc::ChannelCredentials> Credentials();

  /// One trial of two ranks, which no single worker has the slots for.
  void Submit();
  v1::Trial Trial();
  void WaitUntilItRuns();
  /// Number of the host that is first (0) or second (1) of the gang.
  int HostOf(int place);
  /// With each step once in its curve.
  void ExpectSucceeded(int attempts);

  std::string lease_, address_;
  std::unique_ptr<sae::Process> coordinator_;
  std::unique_ptr<v1::SweepService::Stub> sweeps_;
  std::unique_ptr<v1::TrialService::Stub> trials_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

}  // namespace saeloom::multihost
