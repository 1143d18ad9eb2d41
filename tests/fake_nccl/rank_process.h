#pragma once
// Tests whose ranks are processes: the test program starts itself once a rank, and in each a
// scenario runs over the nccl backend and the fake.

#include <functional>
#include <string>
#include <vector>

#include "sae/comm/nccl/nccl.h"
#include "tests/fake_nccl/fake_nccl.h"
#include "tests/support/host_runtime.h"
#include "tests/support/rank_group.h"

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
  absl::Duration start = absl::Seconds(30);
  bool hears_leaving = false;  ///< of the fake's settings
};

/// The main program of a rank: 0 when the scenario ended well and everything was given back.
int RankMain(const sae::testing::RankArguments& arguments, const std::vector<Scenario>& scenarios);

}  // namespace fake_nccl
