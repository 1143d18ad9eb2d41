#pragma once
// The trainer's side of its lease: a file with a deadline in nanoseconds since boot (CLOCK_BOOTTIME, the same
// for all processes of one boot) as decimal text, which the agent renews. A file that is absent or unreadable
// changes nothing: the last deadline that was seen holds, and before the first, `grace` from the start. So a
// trainer ends even when no agent is left to tell it. Not thread-safe. Fails never.

#include <string>

#include "absl/time/time.h"
#include "sae/base/clock.h"
#include "sae/base/env.h"

namespace sae::train {

inline constexpr absl::Duration kLeaseGrace = absl::Seconds(15);

class LeaseFile {
 public:
  LeaseFile(Env& env, Clock& clock, std::string path, absl::Duration grace = kLeaseGrace);
  /// Reads the file; true when the deadline has passed.
  bool Passed();

 private:
  Env& env_;
  Clock& clock_;
  std::string path_;
  absl::Duration deadline_;  // since boot
};

}  // namespace sae::train
