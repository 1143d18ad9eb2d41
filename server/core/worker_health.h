#pragma once
// How attempts ended on each worker lately, and whether that speaks against the machine. Derived
// from the log in its order, so that a restart comes to the same counts; the decision to cordon is
// an event. Not thread-safe.

#include <deque>
#include <map>
#include <string>

#include "absl/time/time.h"

#include "server/core/states.h"

namespace sae::server {

/// NODE_LOST, GPU_FAULT, RENDEZVOUS_TIMEOUT, OOM_HOST: the machine may be why.
bool IsMachinesKind(FailureClass failure);

class WorkerHealth {
 public:
  static constexpr int kFailures = 3;  ///< so many ...
  static constexpr int kWindow = 20;   ///< ... of its last attempts speak against it

  /// An attempt ended there. Attempts that a crash ends together are one failure, so those of one
  /// class within a second count once.
  void Ended(const std::string& worker, FailureClass failure, absl::Time time);
  /// A person looked at it: it begins anew.
  void Forget(const std::string& worker) { workers_.erase(worker); }

  /// Failures of the machine's kind that count.
  int Failures(const std::string& worker) const;
  /// Why nothing should start there; "" = nothing speaks against it.
  std::string Verdict(const std::string& worker) const;
  /// Workers with a verdict.
  std::vector<std::string> Bad() const;

 private:
  friend class StateSnapshot;
  struct End {
    FailureClass failure;
    absl::Time time;
    bool counts = false;
  };
  std::map<std::string, std::deque<End>> workers_;
};

}  // namespace sae::server
