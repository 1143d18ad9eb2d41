#pragma once
// Ends the process, saying in which phase it was, when a phase takes longer than it may: a load
// that hangs must not wait for somebody to look. Thread-safe. One thread.

#include <functional>
#include <string>
#include <thread>

#include "absl/time/time.h"

#include "sae/base/mutex.h"

namespace sae::bench {

class Watchdog {
 public:
  /// `last_words` runs before the process ends, on the watchdog's thread.
  explicit Watchdog(std::function<void()> last_words);
  ~Watchdog();
  /// Ends the phase before and begins `phase`, which may take `limit`. Tells of it on stderr.
  void Begin(const std::string& phase, absl::Duration limit);

 private:
  void Run();

  const std::function<void()> last_words_;
  const absl::Duration start_;
  Mutex mu_;
  CondVar changed_;
  std::string phase_ ABSL_GUARDED_BY(mu_);
  absl::Duration until_ ABSL_GUARDED_BY(mu_) = absl::InfiniteDuration();
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace sae::bench
