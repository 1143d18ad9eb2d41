#include "server/service/read_ahead.h"

namespace sae::server {

bool ReadSome(Core& core, Clock& clock, ReadAhead& reading, absl::Duration slice) {
  constexpr int kBetweenLooks = 16;  // at the clock
  const absl::Duration until = clock.SinceBoot() + slice;
  const SweepRecord* sweep = core.state().sweep(reading.sweep);
  for (int n = 1; sweep != nullptr && reading.next < sweep->trials.size(); ++n) {
    const TrialRecord& trial = sweep->trials[reading.next++];
    if (!trial.attempts.empty() && !core.ProgressOf(*sweep, trial).ok()) return true;
    if (n % kBetweenLooks == 0 && clock.SinceBoot() >= until)
      return reading.next >= sweep->trials.size();
  }
  return true;
}

}  // namespace sae::server
