#pragma once
// How many ranks this machine runs at once, and with how many threads each. Pure, except Detect*.

#include <cstdint>
#include <string>

#include "sae/base/status.h"

namespace saeloom::agent {

struct Slots {
  int slots = 1;
  int gpus = 0;
  int threads = 1;              ///< of each rank
  bool oversubscribed = false;  ///< more slots than cores, none of them a GPU
};

/// `wanted` > 0 is taken as it is; 0 = the GPUs, else min(cores, 8).
/// Threads a rank: floor(cores / slots), at least one.
Slots ChooseSlots(int wanted, int cores, int gpus);

/// Bytes of memory of this machine, or of its control group where that is less; 0 where neither tells.
std::int64_t DetectMemory();

/// Cores this process may run on (its affinity), at least 1.
int DetectCores();
/// Lines of `nvidia-smi -L`; 0 where it is not in `path` ($PATH) or fails.
int DetectGpus(const std::string& path);

}  // namespace saeloom::agent
