#pragma once
// What tests of the agent share: a runs folder, a store whose manifest is real enough, and
// StartAttempt commands for the fake gang.

#include <memory>
#include <string>

#include "sae/base/clock.h"
#include "sae/base/hash.h"
#include "saeloom/v1/worker_service.pb.h"
#include "worker/agent/attempt.h"
#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {

class World {
 public:
  World();
  std::unique_ptr<RunsFolder> OpenRuns(const std::string& name = "w");
  /// Gangs that do `mode`.
  GangOptions Gang(const std::string& mode) const;
  v1::StartAttempt Start(const std::string& trial, int attempt) const;
  std::string store() const { return folder_ / "store"; }
  std::string store_hash() const { return store_hash_; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
  std::string store_hash_;
};

/// Calls `step` until it is true, or for half a minute: a bound on a hang, not a time that passes.
template <class F>
bool Eventually(F step) {
  for (int i = 0; i < 6000; ++i) {
    if (step()) return true;
    sae::RealClock().SleepFor(absl::Milliseconds(5));
  }
  return false;
}

}  // namespace saeloom::agent
