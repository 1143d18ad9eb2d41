#pragma once
// Deletes barriers, one at a time, from the kernels that a test body runs, and requires that the
// body then fails: an assertion of the body, an error that the executor finds, or other bits than
// those of the whole kernel in one of the runs. Executor only: the GPU's program skips.

#include <string>
#include <vector>

#include "tests/simt/device_test.h"

namespace sae::testing {

/// A barrier whose deletion no run can show, with the reason.
struct BarrierSurvivor {
  std::string file;  ///< without folder, as in "encode_cuda.cu"
  int id = 0;
  std::string reason;
};

/// False in builds with sanitizers: a mutant computes with memory that was never written, which is
/// what sanitizers end a program for. ExpectBarriersNeeded then runs the whole kernel only, and
/// says so.
bool MutantsRun();

/// Fails for each barrier that can be deleted unnoticed and is not listed, and for each listed one
/// that the body does not reach or that does fail.
void ExpectBarriersNeeded(const DeviceTestBody& body,
                          const std::vector<BarrierSurvivor>& survivors = {});

}  // namespace sae::testing
