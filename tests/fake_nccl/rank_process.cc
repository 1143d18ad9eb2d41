#include "tests/fake_nccl/rank_process.h"

#include <cstdio>
#include <memory>

namespace fake_nccl {
namespace {

absl::Status RunScenario(const Scenario& scenario, int rank, int size, const std::string& folder) {
  sae::testing::HostRuntime runtime;
  Configure({.runtime = &runtime,
             .folder = folder,
             .faults = scenario.faults ? scenario.faults(rank) : std::vector<Fault>{}});
  SAE_ASSIGN_OR_RETURN(void* const stream, runtime.CreateStream());
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<sae::comm::Rendezvous> rendezvous,
                       sae::comm::CreateFileRendezvous({.env = &sae::RealEnv(),
                                                        .clock = &sae::RealClock(),
                                                        .folder = folder,
                                                        .attempt = "attempt-2",
                                                        .rank = rank,
                                                        .size = size}));
  RankContext context{.options = {.rank = rank,
                                  .size = size,
                                  .rendezvous = rendezvous.get(),
                                  .runtime = &runtime,
                                  .stream = stream,
                                  .deadline = scenario.deadline,
                                  .start = scenario.deadline,
                                  .roll_call = absl::Milliseconds(700)},
                      .runtime = &runtime};
  const absl::Status status = scenario.run(context);
  runtime.DestroyStream(stream);
  if (!status.ok()) return status;
  if (Live() != 0) return absl::InternalError(absl::StrCat(Live(), " communicators are left"));
  if (runtime.live() != 0)
    return absl::InternalError(absl::StrCat(runtime.live(), " things of the runtime are left"));
  return absl::OkStatus();
}

}  // namespace

int RankMain(const sae::testing::RankArguments& arguments, const std::vector<Scenario>& scenarios) {
  for (const Scenario& scenario : scenarios) {
    if (scenario.name != arguments.name) continue;
    const absl::Status status =
        RunScenario(scenario, arguments.rank, arguments.size, arguments.folder);
    if (status.ok()) return 0;
    std::printf("%s\n", status.ToString().c_str());
    return 1;
  }
  std::printf("no scenario %s\n", arguments.name.c_str());
  return 2;
}

}  // namespace fake_nccl
