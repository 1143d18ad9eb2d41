#pragma once
// Sharded runs of the device engine on the executor.

#include <memory>
#include <vector>

#include "sae/comm/staging/staging.h"
#include "sae/train/device/device_engine_testing.h"
#include "tests/simt/runtime.h"

namespace sae::train::testing {

/// A rank's device communicator, over the group that the test runs in.
struct StagedRank {
  DeviceRuntime* runtime;
  void* stream = nullptr;
  std::unique_ptr<comm::Communicator> communicator;
  std::int64_t deferred_window = DeviceParts().deferred_window;
  ~StagedRank() {
    communicator.reset();
    if (stream != nullptr) runtime->DestroyStream(stream);
  }
};

/// Collectives in the stream, captured in the step's graph.
inline absl::StatusOr<std::unique_ptr<Engine<float>>> CreateStaged(
    simt::SimtRuntime& runtime, StagedRank& own, const config::TrialConfig& config, std::int64_t d,
    std::int64_t d_out, comm::Communicator& ranks, ThreadPool& pool) {
  if (own.stream == nullptr) {
    SAE_ASSIGN_OR_RETURN(own.stream, runtime.CreateStream());
  }
  SAE_ASSIGN_OR_RETURN(auto group, ranks.Split(0, ranks.rank()));
  comm::StagingOptions options;
  options.runtime = &runtime;
  options.stream = own.stream;
  SAE_ASSIGN_OR_RETURN(own.communicator, comm::StageThroughHost(std::move(group), options));
  DeviceParts parts;
  parts.runtime = &runtime;
  parts.collectives = own.communicator.get();
  parts.stream_ordered = true;
  parts.stream = own.stream;
  parts.deferred_window = own.deferred_window;
  return DeviceEngine::Create(config, d, d_out, ranks, pool, parts);
}

/// On config.ranks ranks.
inline DeviceRun RunSharded(simt::SimtRuntime& runtime, const config::TrialConfig& config,
                            std::int64_t d, std::int64_t d_out,
                            const std::vector<std::vector<float>>& batches) {
  std::vector<StagedRank> staged(static_cast<std::size_t>(config.ranks));
  for (StagedRank& rank : staged) rank.runtime = &runtime;
  return RunSteps(config, d, d_out, batches,
                  [&](const auto& c, std::int64_t in, std::int64_t out, auto& ranks, auto& pool) {
                    return CreateStaged(runtime, staged[static_cast<std::size_t>(ranks.rank())], c,
                                        in, out, ranks, pool);
                  });
}

}  // namespace sae::train::testing
