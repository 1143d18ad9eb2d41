#pragma once
// Tests whose ranks are processes: the test program starts itself once a rank, and in each a
// scenario runs over the nccl backend and the fake.

#include <functional>
#include <string>
#include <vector>

#include "sae/base/process.h"
#include "sae/comm/nccl/nccl.h"
#include "tests/fake_nccl/fake_nccl.h"
#include "tests/support/host_runtime.h"

namespace fake_nccl {

/// One rank's world: ready to be given to CreateNccl.
struct RankContext {
  sae::comm::NcclOptions options;
  sae::testing::HostRuntime* runtime = nullptr;
};

struct Scenario {
  std::string name;
  std::function<std::vector<Fault>(int rank)> faults;
  std::function<absl::Status(RankContext&)> run;
  absl::Duration deadline = absl::Seconds(30);
};

struct RankResult {
  sae::ExitStatus exit;
  std::string output;
};

/// Starts `size` ranks of a scenario and waits for all, for a minute at most. They share one
/// folder, which is theirs alone.
std::vector<RankResult> RunRanks(int size, const std::string& scenario);

/// The main program of a rank: 0 when the scenario ended well and everything was given back.
int RankMain(const std::vector<std::string>& arguments, const std::vector<Scenario>& scenarios);

}  // namespace fake_nccl
