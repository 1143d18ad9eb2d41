#pragma once
// attempt.json: what a worker notes about an attempt in its folder, for itself after a restart and
// for people. A plain value; written atomically.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/env.h"

namespace saeloom::agent {

struct AttemptRecord {
  std::string sweep;
  std::string trial;
  int attempt = 0;
  std::string gang;  ///< key of the attempt that its gang is named after; "" = its own
  /// Of its gang, as CUDA_VISIBLE_DEVICES names them; none: on CPUs.
  std::vector<std::string> gpus;
  std::string worker_id;
  std::string incarnation;
  std::string boot_id;
  int slots = 1;                        ///< of its gang, on this machine
  int ranks = 1;                        ///< of its gang
  int hosts = 1;                        ///< over which its gang is spread, this one included
  double progress_timeout_seconds = 0;  ///< without a new step; 0 = never
  std::int64_t pid = 0;                 ///< of mpirun; 0 = not started yet
  std::int64_t start_ticks = 0;         ///< of mpirun: with pid and boot_id it names the process
  std::int64_t oom_kills = 0;           ///< the kernel's count at the start
  bool ended = false;                   ///< all its processes are gone, and what follows is known
  int exit_code = 0;                    ///< mpirun's; -1 = unknown
  std::string verdict;
  std::string reason;
  int failure_class = 0;  ///< of saeloom.v1.FailureClass
};

[[nodiscard]] absl::Status WriteRecord(sae::Env& env, const std::string& directory,
                                       const AttemptRecord& record);
/// NOT_FOUND, or DATA_LOSS naming the file.
[[nodiscard]] absl::StatusOr<AttemptRecord> ReadRecord(sae::Env& env, const std::string& directory);

}  // namespace saeloom::agent
