#pragma once
// Time, injected. Everything that waits, leases or stamps takes a Clock&. Thread-safe.

#include "absl/time/time.h"
#include "sae/base/mutex.h"

namespace sae {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Wall time: for display and records only; it may jump.
  virtual absl::Time Now() = 0;
  /// Time since boot, suspend included (CLOCK_BOOTTIME): for leases and deadlines. The same for all
  /// processes of one boot.
  virtual absl::Duration SinceBoot() = 0;
  virtual void SleepFor(absl::Duration duration) = 0;
};

/// The machine's clock. The object has no state and lives for ever.
Clock& RealClock();

/// Stands still until told. SleepFor advances it.
class FakeClock final : public Clock {
 public:
  absl::Time Now() override;
  absl::Duration SinceBoot() override;
  void SleepFor(absl::Duration duration) override { Advance(duration); }
  void Advance(absl::Duration duration);
  /// Moves the wall clock alone, as an operator who sets the date does.
  void JumpWall(absl::Duration duration);

 private:
  Mutex mu_;
  absl::Time now_ ABSL_GUARDED_BY(mu_) = absl::FromUnixSeconds(1'700'000'000);
  absl::Duration since_boot_ ABSL_GUARDED_BY(mu_) = absl::Hours(1);
};

}  // namespace sae
