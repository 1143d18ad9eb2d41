#include "sae/base/clock.h"

#include <ctime>

#include "absl/time/clock.h"

namespace sae {
namespace {

class MachineClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration SinceBoot() override {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return absl::DurationFromTimespec(t);
  }
  void SleepFor(absl::Duration duration) override { absl::SleepFor(duration); }
};

}  // namespace

Clock& RealClock() {
  static MachineClock clock;
  return clock;
}

absl::Time FakeClock::Now() {
  MutexLock lock(mu_);
  return now_;
}

absl::Duration FakeClock::SinceBoot() {
  MutexLock lock(mu_);
  return since_boot_;
}

void FakeClock::Advance(absl::Duration duration) {
  MutexLock lock(mu_);
  now_ += duration;
  since_boot_ += duration;
}

void FakeClock::JumpWall(absl::Duration duration) {
  MutexLock lock(mu_);
  now_ += duration;
}

}  // namespace sae
