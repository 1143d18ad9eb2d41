#pragma once
// What the parts of the engine share: where this rank stands, and the time of each phase. Borrows
// mesh and pool. Not thread-safe. With D replicas each computes its loss, a mean over tokens, on its
// own part of the batch; what the batch has is the mean over replicas.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>

#include "sae/base/parallel.h"
#include "sae/comm/communicator.h"
#include "sae/config/run_config.h"
#include "sae/model/options.h"
#include "sae/model/shard.h"
#include "sae/train/engine/mesh.h"

namespace sae::train {

/// Local ids [first, last).
struct LatentRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

struct Context {
  config::TrialConfig config;  ///< resolved
  model::Options options;
  model::LatentShard shard;
  std::int64_t d;      ///< width of the input
  std::int64_t d_out;  ///< width of the target; d but for transcoders
  comm::Communicator& communicator;  ///< the latent shards of this replica
  ThreadPool& pool;
  const Mesh& mesh;

  std::int64_t replicas() const { return mesh.replicas().size(); }
  std::int64_t replica() const { return mesh.replicas().rank(); }
  /// Tokens of a step that this replica takes.
  std::int64_t batch() const { return config.train.batch / replicas(); }
  /// The latents of this shard whose moments this rank keeps.
  LatentRange Owned() const {
    const std::int64_t own = shard.count / replicas();
    return {replica() * own, (replica() + 1) * own};
  }
  /// Each value becomes its mean over the replicas, the same bits on all of them.
  template <class V>
  [[nodiscard]] absl::Status MeanOverReplicas(std::span<V> values) const {
    if (replicas() == 1) return absl::OkStatus();
    SAE_RETURN_IF_ERROR(mesh.replicas().AllReduceSum(values));
    for (V& v : values) v /= static_cast<V>(replicas());
    return absl::OkStatus();
  }
};

/// Tokens of silence after which a latent counts as dead; one that fires in every batch never does.
inline std::int64_t DeadAfter(const config::TrialConfig& resolved) {
  return std::max<std::int64_t>(1, resolved.sae.dead_after_tokens.value_or(0));
}

/// Milliseconds of the last step.
struct Phases {
  double encode = 0;    ///< pre-activations and local selection
  double select = 0;    ///< global winners, codes, index by latent
  double exchange = 0;  ///< inside collectives
  double decode = 0;    ///< reconstruction and error
  double aux = 0;       ///< AuxK, Multi-TopK, the gate's loss, without their collectives
  double backward = 0;  ///< latent gradients, bias terms
  double update = 0;    ///< gradient rows, Adam
};

/// Adds the time of its life to `target`.
class PhaseTimer {
 public:
  explicit PhaseTimer(double& target) : target_(target), start_(std::chrono::steady_clock::now()) {}
  ~PhaseTimer() {
    target_ += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
                   .count();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  double& target_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace sae::train
