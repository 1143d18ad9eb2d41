#pragma once
// What every Communicator must do, whatever carries it. Each case is run by all ranks of a fresh
// group and returns the first thing that is wrong on this rank. A backend passes by running Cases()
// at several sizes, on the memory that it works on; a rank whose case has ended stays until all
// have.

#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

/// What only some backends promise.
struct Traits {
  bool adds_in_rank_order = true;
  bool tells_mismatch =
      true;  ///< different calls end in an error, on some rank, within the deadline
};

struct Case {
  std::string name;
  int min_ranks = 1;
  absl::Duration deadline = absl::Seconds(60);
  std::function<absl::Status(Communicator&)> run;
  bool needs_rank_order = false;
  bool needs_mismatch = false;
  bool ends_group = false;  ///< the group is of no use afterwards
};

/// In a fixed order, so that ranks in different processes agree on it.
const std::vector<Case>& Cases();

/// Whether there is anything to ask of a group of `ranks`.
inline bool Applies(const Case& test, int ranks, const Traits& traits = {}) {
  return ranks >= test.min_ranks && (traits.adds_in_rank_order || !test.needs_rank_order) &&
         (traits.tells_mismatch || !test.needs_mismatch);
}

// The parts of Cases(): parts of groups, and failures.
void AppendParts(std::vector<Case>& cases);
void AppendFailures(std::vector<Case>& cases);

}  // namespace sae::comm::contract
