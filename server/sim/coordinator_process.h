#pragma once
// One process of the coordinator in a simulation: a real Core over a clock and a store of its own.
// It can be frozen (SIGSTOP), and it ends when the world or a commit fault says so; what it would
// say after that reaches nobody. Not thread-safe.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "server/core/core.h"
#include "server/sim/sim_store.h"

namespace sae::server::sim {

class CoordinatorProcess final : public CoreObserver,
                                 public std::enable_shared_from_this<CoordinatorProcess> {
 public:
  struct Options {
    CoreOptions core;
    double clock_rate = 1;
    absl::Duration booted;
    std::function<CommitFault()> next_fault;
  };
  using Push = std::function<void(const std::vector<Command>&)>;

  /// Null when it could not start.
  static std::shared_ptr<CoordinatorProcess> Start(Options options, EventQueue& queue,
                                                   SharedDisk& disk);
  bool alive() const { return alive_; }
  const Core& core() const { return *core_; }
  SimClock& clock() { return clock_; }

  /// Runs `work` on the core now, or when it is no longer frozen; never, once it has ended.
  void Do(std::function<void(Core&)> work);
  /// Does nothing until then.
  void FreezeUntil(absl::Duration until) { frozen_until_ = std::max(frozen_until_, until); }
  void Kill() { alive_ = false; }
  /// Where new commands for a worker go; replaced when it registers again.
  void SetSession(const std::string& worker, Push push) { sessions_[worker] = std::move(push); }

  void OnCommands(const std::string& worker) override { woken_.insert(worker); }

 private:
  CoordinatorProcess(Options options, EventQueue& queue, SharedDisk& disk);
  void AfterWork();
  void PushCommands();
  void ScheduleTick();

  EventQueue& queue_;
  SimClock clock_;
  SimStore store_;
  std::unique_ptr<Core> core_;
  std::map<std::string, Push> sessions_;
  std::set<std::string> woken_;
  absl::Duration frozen_until_;
  absl::Duration tick_at_ = absl::InfiniteDuration();
  bool alive_ = true;
};

}  // namespace sae::server::sim
