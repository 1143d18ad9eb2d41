#pragma once
// Where a rank computes, and what carries collectives between devices: its runtime, its stream, its
// communicator. All ranks open theirs together, and all fail when one does. Not thread-safe; the
// communicator keeps its own rules. Errors: INVALID_ARGUMENT for a device or collectives that do
// not exist, NOT_FOUND without a GPU, UNIMPLEMENTED when asked for NCCL in a build without it.

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"
#include "sae/comm/rendezvous.h"

namespace saeloom::trainer {

/// This rank among those that the launcher started on this host; {0, 1} when alone.
struct LocalRanks {
  int rank = 0;
  int size = 1;
};
/// From the variables of Open MPI, of other MPIs, or of Slurm, as `getenv` gives them (null: not
/// set).
LocalRanks LocalRanksOf(const std::function<const char*(const char*)>& getenv);
LocalRanks LocalRanksFromEnvironment();

struct DeviceOptions {
  std::string device =
      "cuda";  ///< "cuda": ranks of a host are dealt to its GPUs; "cuda:N": that one
  std::string collectives =
      "auto";          ///< "nccl"; "host": staged through `host`; "auto": see OpenDevice
  int local_rank = 0;  ///< of the ranks on this host: LocalRanks
  int local_size = 1;
  absl::Duration deadline = absl::Minutes(5);  ///< of each operation
};

/// What there is, injected.
struct DeviceBackend {
  std::function<int()> count;
  std::function<absl::StatusOr<std::unique_ptr<sae::DeviceRuntime>>(int device)> create;
};
DeviceBackend CudaBackend();

class Device {
 public:
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  sae::DeviceRuntime& runtime() { return *runtime_; }
  void* stream() { return stream_; }
  /// On device memory, in stream().
  sae::comm::Communicator& communicator() { return *communicator_; }
  /// "cuda:1 (NVIDIA H100), collectives over NCCL".
  const std::string& description() const { return description_; }

 private:
  friend absl::StatusOr<std::unique_ptr<Device>> OpenDevice(sae::comm::Communicator&,
                                                            const DeviceOptions&,
                                                            const DeviceBackend&);
  Device() = default;

  // In the order in which they need each other; the destructor goes backwards.
  std::unique_ptr<sae::DeviceRuntime> runtime_;
  void* stream_ = nullptr;
  std::unique_ptr<sae::comm::Rendezvous> rendezvous_;
  std::unique_ptr<sae::comm::Communicator> communicator_;
  std::string description_;
};

/// All ranks of `host` (borrowed; outlives the device) call it. "auto" takes NCCL where this build
/// has it and no two ranks of a host share a GPU, which NCCL refuses; else it stages through the
/// host. A single rank needs neither.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Device>> OpenDevice(sae::comm::Communicator& host,
                                                                 const DeviceOptions& options,
                                                                 const DeviceBackend& backend);

}  // namespace saeloom::trainer
