#include "client/cli/await.h"

#include <algorithm>

#include "client/cli/exit_code.h"
#include "client/cli/watcher.h"

namespace sae::cli {

absl::Status Await(Session& session, const std::string& what,
                   const std::function<absl::StatusOr<bool>()>& done) {
  absl::Duration heard = session.world.clock.SinceBoot();
  absl::Duration wait = absl::Milliseconds(100);
  for (;;) {
    const auto is_done = done();
    const absl::Duration now = session.world.clock.SinceBoot();
    if (is_done.ok()) {
      if (*is_done) return absl::OkStatus();
      heard = now;
    } else if (!absl::IsUnavailable(is_done.status()) || now - heard > absl::Minutes(1)) {
      return is_done.status();
    }
    const bool interrupted = session.Interrupted(wait);
    wait = std::min(wait * 1.5, absl::Seconds(1));
    if (interrupted) {
      session.Note("stopped waiting; " + what);
      session.exit_code = kExitInterrupted;
      return absl::OkStatus();
    }
  }
}

absl::Status AwaitSweep(Session& session, Api& api, const std::string& sweep) {
  WatchOptions watch;
  watch.show = session.json() || session.names() || session.quiet ? WatchOptions::Show::kNothing
                                                                  : WatchOptions::Show::kSummary;
  SAE_ASSIGN_OR_RETURN(const WatchResult result,
                       Watch(api, session.world, sweep, watch, session.signals.get()));
  session.exit_code = result.interrupted ? kExitInterrupted : SweepExitCode(result.sweep);
  return absl::OkStatus();
}

}  // namespace sae::cli
