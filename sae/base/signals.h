#pragma once
// Signals as a file descriptor: no handler, so nothing async-signal-unsafe can happen. Make one
// first thing in main(), before any thread starts, so that every thread inherits the blocked mask.
// Children started by Process begin with an empty mask. Wait is thread-safe.

#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"

namespace sae {

class SignalWatcher {
 public:
  /// Blocks `signals` in the calling thread. SIGPIPE is ignored as well: a lost peer is an error
  /// code.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SignalWatcher>> Create(
      const std::vector<int>& signals);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

  /// The next signal, waiting at most `timeout` (InfiniteDuration: for ever); nullopt = none came.
  std::optional<int> Wait(absl::Duration timeout);
  /// For poll(): readable when a signal waits.
  int fd() const { return fd_; }

 private:
  explicit SignalWatcher(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace sae
