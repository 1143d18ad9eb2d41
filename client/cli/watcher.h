#pragma once
// Follows one sweep to its end: the loop behind `watch` and `submit --wait|--follow`. Resumes after
// a lost connection where it was. Ctrl-C ends the watching, never the sweep.

#include <string>

#include "client/cli/api.h"
#include "client/cli/watch_model.h"
#include "client/cli/world.h"

namespace sae::cli {

struct WatchOptions {
  enum class Show { kTrials, kSummary, kJson, kNothing };
  Show show = Show::kTrials;
  bool yaml = false;  ///< kJson: documents instead of lines
  absl::Duration line_every = absl::Seconds(5);
  absl::Duration reconnect_for = absl::Seconds(60);  ///< how long a lost coordinator is waited for
};

struct WatchResult {
  bool interrupted = false;
  saeloom::v1::Sweep sweep;  ///< as it was at the end
};

/// `signals` (null: none) was made before `api`, whose threads must inherit its mask.
[[nodiscard]] absl::StatusOr<WatchResult> Watch(Api& api, World& world, const std::string& sweep,
                                                const WatchOptions& options,
                                                SignalWatcher* signals);

/// Exit code with --wait: 0, 10 or 11.
int SweepExitCode(const saeloom::v1::Sweep& sweep);

}  // namespace sae::cli
