#pragma once
// What this worker holds for gangs over several workers: slots and GPUs, and the token with which
// the gang's head may start a daemon here. Kept in memory alone: a worker that comes back holds
// nothing, and whatever ran here for a peer ended with it (worker/rsh/guard.h). Thread-safe: the
// agent's loop makes and ends reservations, PeerService's threads run commands under them. Errors:
// PERMISSION_DENIED for another token; NOT_FOUND where nothing is held.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "worker/agent/attempt_key.h"

namespace saeloom::agent {

struct Reservation {
  AttemptKey key;
  std::string token;
  int slots = 0;
  std::vector<std::string> gpus;  ///< as CUDA_VISIBLE_DEVICES names them; none: on CPUs
};

class Reservations {
 public:
  void Hold(const Reservation& reservation);
  bool Holds(const AttemptKey& key) const;
  /// For the head, whose gang takes over what was held. False when nothing was.
  bool Take(const AttemptKey& key);
  /// Commands under it are to end, no new one begins; it is held until they have.
  void End(const AttemptKey& key);
  void EndAll();
  /// Those under which nothing runs.
  void EndIdle();
  /// Those that were ended and have no command left: they are held no longer.
  std::vector<AttemptKey> TakeGone();

  std::vector<AttemptKey> All() const;
  int slots() const;
  std::set<std::string> gpus() const;

  /// A command begins under it, until Leave.
  [[nodiscard]] absl::StatusOr<Reservation> Enter(const AttemptKey& key, const std::string& token);
  /// False once it is to end.
  bool Wanted(const AttemptKey& key) const;
  void Leave(const AttemptKey& key);

 private:
  struct Held {
    Reservation reservation;
    int commands = 0;
    bool ended = false;
  };
  mutable sae::Mutex mu_;
  std::map<AttemptKey, Held> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace saeloom::agent
