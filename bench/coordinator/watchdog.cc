#include "bench/coordinator/watchdog.h"

#include <cstdio>
#include <cstdlib>

#include "sae/base/clock.h"

namespace sae::bench {

Watchdog::Watchdog(std::function<void()> last_words)
    : last_words_(std::move(last_words)),
      start_(RealClock().SinceBoot()),
      thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void Watchdog::Begin(const std::string& phase, absl::Duration limit) {
  MutexLock lock(mu_);
  phase_ = phase;
  const absl::Duration now = RealClock().SinceBoot();
  until_ = now + limit;
  std::fprintf(stderr, "[%5.1f s] %s\n", absl::ToDoubleSeconds(now - start_), phase.c_str());
}

void Watchdog::Run() {
  MutexLock lock(mu_);
  while (!stopping_) {
    changed_.WaitFor(mu_, absl::Milliseconds(200));
    if (stopping_ || RealClock().SinceBoot() < until_) continue;
    std::fprintf(stderr, "coordinator_bench: \"%s\" takes too long: ending\n", phase_.c_str());
    last_words_();
    std::_Exit(1);
  }
}

}  // namespace sae::bench
