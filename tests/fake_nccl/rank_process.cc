#include "tests/fake_nccl/rank_process.h"

#include <cstdio>
#include <memory>

namespace fake_nccl {
namespace {

absl::Status RunScenario(const Scenario& scenario, int rank, int size, const std::string& folder) {
  sae::testing::HostRuntime runtime;
  Configure({.runtime = &runtime,
             .folder = folder,
             .faults = scenario.faults ? scenario.faults(rank) : std::vector<Fault>{},
             .hears_leaving = scenario.hears_leaving});
  SAE_ASSIGN_OR_RETURN(void* const stream, runtime.CreateStream());
  const auto meet = [&](const std::string& attempt) {
    return sae::comm::CreateFileRendezvous({.env = &sae::RealEnv(),
                                            .clock = &sae::RealClock(),
                                            .folder = folder,
                                            .attempt = attempt,
                                            .rank = rank,
                                            .size = size});
  };
  // Deadlines are short and processes may start far apart on a busy machine: all begin together.
  SAE_ASSIGN_OR_RETURN(const auto begin, meet("begin"));
  SAE_RETURN_IF_ERROR(begin->RollCall("ready", absl::Seconds(30)));
  SAE_ASSIGN_OR_RETURN(const auto rendezvous, meet("attempt"));
  RankContext context{.options = {.rank = rank,
                                  .size = size,
                                  .rendezvous = rendezvous.get(),
                                  .runtime = &runtime,
                                  .stream = stream,
                                  .deadline = scenario.deadline,
                                  .start = scenario.start,
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
