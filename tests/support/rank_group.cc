#include "tests/support/rank_group.h"

#include <csignal>
#include <cstdlib>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "tests/support/temp_dir.h"

namespace sae::testing {

std::vector<RankResult> RunRanks(
    int size, const std::string& name, absl::Duration deadline,
    const std::function<std::map<std::string, std::string>(int rank)>& environment) {
  const TempDir folder;
  std::vector<std::unique_ptr<Process>> processes;
  std::vector<RankResult> results(static_cast<std::size_t>(size));
  const auto output = [&](int rank) { return folder / absl::StrCat("output-", rank); };
  for (int r = 0; r < size; ++r) {
    ProcessSpec spec{.argv = {"/proc/self/exe", "--rank", absl::StrCat(r), absl::StrCat(size),
                              folder.path(), name},
                     .output = output(r),
                     .errors = output(r)};
    if (environment != nullptr) spec.environment = environment(r);
    auto process = Process::Spawn(spec);
    if (!process.ok()) {
      results[static_cast<std::size_t>(r)] = {{.code = 127}, process.status().ToString()};
      return results;
    }
    processes.push_back(*std::move(process));
  }
  const absl::Duration end = RealClock().SinceBoot() + deadline;
  for (int r = 0; r < size; ++r) {
    RankResult& result = results[static_cast<std::size_t>(r)];
    const absl::Duration left = std::max(absl::ZeroDuration(), end - RealClock().SinceBoot());
    const auto exit = processes[static_cast<std::size_t>(r)]->Wait(left);
    result.exit = exit.ok() && exit->has_value() ? **exit : ExitStatus{.code = 124};
    result.output = RealEnv().Read(output(r)).value_or("no output");
  }
  return results;
}

void ExpectAllWell(const std::vector<RankResult>& results, int killed) {
  for (std::size_t r = 0; r < results.size(); ++r) {
    const ExitStatus& exit = results[r].exit;
    if (static_cast<int>(r) == killed) {
      EXPECT_EQ(exit.signal, SIGKILL) << "rank " << r << ": " << results[r].output;
    } else {
      EXPECT_EQ(exit.ShellCode(), 0) << "rank " << r << ": " << results[r].output;
    }
  }
}

bool ParseRank(int argc, char** argv, RankArguments* arguments) {
  if (argc != 6 || std::string(argv[1]) != "--rank") return false;
  *arguments = {std::atoi(argv[2]), std::atoi(argv[3]), argv[4], argv[5]};
  return true;
}

}  // namespace sae::testing
