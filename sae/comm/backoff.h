#pragma once
// Waits between polls of something that another process or a device does: at first the processor
// goes to whoever needs it at once, later the poller rests, up to half a millisecond at a time. One
// thread.

#include <algorithm>
#include <sched.h>

#include "absl/time/time.h"

#include "sae/base/clock.h"

namespace sae::comm {

class Backoff {
 public:
  void Pause() {
    const absl::Duration so_far = waited();
    if (so_far < absl::Milliseconds(1)) {
      sched_yield();
    } else {
      RealClock().SleepFor(std::min(absl::Microseconds(500), so_far / 32));
    }
  }
  absl::Duration waited() const { return RealClock().SinceBoot() - start_; }

 private:
  const absl::Duration start_ = RealClock().SinceBoot();
};

}  // namespace sae::comm
