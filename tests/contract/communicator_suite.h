#pragma once
// What every Communicator must do, whatever carries it. Each case is run by all ranks of a fresh
// group and returns the first thing that is wrong on this rank. A backend passes by running Cases()
// at several sizes through its Runner (see inproc_test.cc, self_test.cc, mpi_test.cc).

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

struct Case {
  std::string name;
  int min_ranks = 1;
  absl::Duration deadline = absl::Seconds(60);
  std::function<absl::Status(Communicator&)> run;
};

/// In a fixed order, so that ranks in different processes agree on it.
const std::vector<Case>& Cases();

}  // namespace sae::comm::contract
