#include "tests/fake_nccl/rank_process.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "tests/support/temp_dir.h"

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

std::vector<RankResult> RunRanks(int size, const std::string& scenario) {
  const sae::testing::TempDir folder;
  std::vector<std::unique_ptr<sae::Process>> processes;
  std::vector<RankResult> results(static_cast<std::size_t>(size));
  const auto output = [&](int rank) { return folder / absl::StrCat("output-", rank); };
  for (int r = 0; r < size; ++r) {
    auto process = sae::Process::Spawn({.argv = {"/proc/self/exe", "--rank", absl::StrCat(r),
                                                 absl::StrCat(size), folder.path(), scenario},
                                        .output = output(r),
                                        .errors = output(r)});
    if (!process.ok()) {
      results[static_cast<std::size_t>(r)] = {{.code = 127}, process.status().ToString()};
      return results;
    }
    processes.push_back(*std::move(process));
  }
  const absl::Duration end = sae::RealClock().SinceBoot() + absl::Seconds(60);
  for (int r = 0; r < size; ++r) {
    RankResult& result = results[static_cast<std::size_t>(r)];
    const auto exit =
        processes[static_cast<std::size_t>(r)]->Wait(end - sae::RealClock().SinceBoot());
    result.exit = exit.ok() && exit->has_value() ? **exit : sae::ExitStatus{.code = 124};
    result.output = sae::RealEnv().Read(output(r)).value_or("no output");
  }
  return results;
}

int RankMain(const std::vector<std::string>& arguments, const std::vector<Scenario>& scenarios) {
  if (arguments.size() != 6) return 2;
  for (const Scenario& scenario : scenarios) {
    if (scenario.name != arguments[5]) continue;
    const absl::Status status = RunScenario(scenario, std::atoi(arguments[2].c_str()),
                                            std::atoi(arguments[3].c_str()), arguments[4]);
    if (status.ok()) return 0;
    std::printf("%s\n", status.ToString().c_str());
    return 1;
  }
  std::printf("no scenario %s\n", arguments[5].c_str());
  return 2;
}

}  // namespace fake_nccl
