#pragma once
// What a rank does in the tests of the nccl backend: the cases of the contract, and failures.

#include <vector>

#include "tests/fake_nccl/rank_process.h"

namespace fake_nccl {

/// "contract.CASE", for every case of the suite; "leaving.CASE" for the same where ranks hear of
/// one that leaves.
std::vector<Scenario> ContractScenarios();
std::vector<Scenario> FaultScenarios();
std::vector<Scenario> StreamScenarios();

/// OK when `status` has the code and its message the text.
absl::Status Expect(const absl::Status& status, absl::StatusCode code, const std::string& text);

}  // namespace fake_nccl
