#pragma once
// Ranks as processes: a test program starts itself once a rank, as `PROGRAM --rank R SIZE FOLDER
// NAME`.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/process.h"

namespace sae::testing {

struct RankResult {
  ExitStatus exit;  ///< code 124: it was killed at the deadline, 127: it could not be started
  std::string output;
};

/// Starts `size` ranks of the scenario `name` and waits for all. They share a folder that is theirs
/// alone. `environment` gives each rank's further variables.
std::vector<RankResult> RunRanks(
    int size, const std::string& name, absl::Duration deadline,
    const std::function<std::map<std::string, std::string>(int rank)>& environment = nullptr);

/// One gtest failure for each rank that did not end well, with its output. The rank `killed` must
/// have died by SIGKILL.
void ExpectAllWell(const std::vector<RankResult>& results, int killed = -1);

/// What RunRanks hands a rank.
struct RankArguments {
  int rank = 0;
  int size = 1;
  std::string folder;
  std::string name;
};
/// False: this process is the test program itself.
bool ParseRank(int argc, char** argv, RankArguments* arguments);

}  // namespace sae::testing
