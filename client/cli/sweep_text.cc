#include "client/cli/sweep_text.h"

#include "client/cli/await.h"
#include "client/cli/trial_view.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
using saeloom::v1::Sweep;

std::string SweepLine(const Sweep& sweep) {
  return absl::StrCat("sweep ", BareName(sweep.name()), ": ", StateText(sweep.state()), ", ",
                      CountsText(sweep));
}

bool SweepIsStill(const Sweep& sweep) {
  for (const char* state : {"ALLOCATED", "STARTING", "RUNNING", "CHECKPOINTING"}) {
    const auto it = sweep.trials().find(state);
    if (it != sweep.trials().end() && it->second > 0) return false;
  }
  return true;
}

bool SweepHasEnded(const Sweep& sweep) {
  return SweepIsStill(sweep) &&
         (sweep.state() == Sweep::STATE_SUCCEEDED || sweep.state() == Sweep::STATE_FAILED ||
          sweep.state() == Sweep::STATE_CANCELLED);
}

absl::Status AwaitState(Session& session, Api& api, const std::string& name,
                        const std::function<bool(const Sweep&)>& done, Sweep& sweep) {
  return Await(session, "the change goes on: saeloom sweep get " + BareName(name),
               [&]() -> absl::StatusOr<bool> {
                 SAE_ASSIGN_OR_RETURN(sweep, api.GetSweep(name));
                 return done(sweep);
               });
}

}  // namespace sae::cli
