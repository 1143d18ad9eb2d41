#pragma once
// Workers on hosts of their own, each with a coordinator that is played (the real one's part in it
// is tests/e2e's), the real trainer and mpirun, and one gang over all hosts with a rank on each.

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/multihost/net_hosts.h"
#include "tests/support/temp_dir.h"
#include "worker/agent/testing/fake_coordinator.h"

namespace saeloom::multihost {

class GangWorld : public testing::Test {
 public:
  /// Why there can be no hosts here; set once by main().
  static inline absl::Status impossible;

 protected:
  void SetUp() override;
  void TearDown() override;

  void MakeHosts(int count);
  void StartHosts(int count, absl::Duration lease = absl::Seconds(60));
  void StartWorker(int host);
  /// What lets peers in beyond loopback.
  virtual std::vector<std::string> WorkerSecurity(int) { return {"--insecure-bind-anywhere"}; }
  virtual std::string CoordinatorOf(int host) { return coordinator(host).address(); }
  /// Both phases, for `steps` steps. `progress_timeout` in seconds; 0 = never.
  void StartGang(int steps, int attempt = 1, double progress_timeout = 0);
  void Release(int host, int attempt = 1);
  void WaitUntilUnderWay(int attempt = 1);

  agent::AttemptKey Key(int attempt) const { return {"demo", "0000", attempt}; }
  agent::FakeCoordinator& coordinator(int host) {
    return *coordinators_[static_cast<std::size_t>(host - 1)];
  }
  /// The head's last word on the attempt.
  v1::AttemptStatus End(int attempt = 1);
  bool HeadEnds(int attempt = 1);
  /// Steps of train.loss that the head has reported, in the order they came.
  std::vector<std::int64_t> Steps(int attempt = 1);
  void ExpectFinished(int steps, int attempt = 1);
  /// No daemon and no rank is left on the host.
  bool NothingRunsOn(int host) const;
  std::string Logs() const;

  /// Asks until it is so; a bound on a hang, not a time that passes.
  static bool Eventually(const std::function<bool()>& so);

  sae::testing::TempDir folder_;
  std::string store_hash_;
  std::vector<std::unique_ptr<agent::FakeCoordinator>> coordinators_;
  std::unique_ptr<NetHosts> hosts_;
  int count_ = 0;
};

}  // namespace saeloom::multihost
