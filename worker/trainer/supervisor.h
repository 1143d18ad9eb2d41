#pragma once
// One thread beside the training: turns signals into wishes, and ends a process that makes no progress. It
// owns its thread until destroyed. Thread-safe.
// A second SIGINT or SIGTERM does not wait for a checkpoint: exit 128 + signal at once.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "absl/time/time.h"
#include "sae/base/signals.h"
#include "sae/train/stop.h"

namespace saeloom::trainer {

class Supervisor {
 public:
  struct Options {
    sae::SignalWatcher* signals = nullptr;
    absl::Duration no_progress = absl::Minutes(5);
    /// Called on the supervisor's thread when time is up: writes the last words and ends the process.
    std::function<void(absl::Duration silent)> on_stuck;
    /// Ends the process at once.
    std::function<void(int code)> end_now;
    /// How often it looks; progress is counted in these, so that a suspended machine or a stopped process
    /// is not taken for a hang.
    absl::Duration tick = absl::Milliseconds(100);
  };
  explicit Supervisor(Options options);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  sae::train::StopReason StopRequested() const {
    return static_cast<sae::train::StopReason>(stop_.load(std::memory_order_relaxed));
  }
  void Progress() { progress_.fetch_add(1, std::memory_order_relaxed); }

 private:
  void Loop();
  void OnSignal(int signal);

  const Options options_;
  std::atomic<std::int32_t> stop_{0};
  std::atomic<std::int64_t> progress_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace saeloom::trainer
