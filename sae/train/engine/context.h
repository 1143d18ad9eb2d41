#pragma once
// What the parts of the engine share: where this rank stands, and the time of each phase. Borrows
// communicator and pool. Not thread-safe.

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/comm/communicator.h"
#include "sae/config/run_config.h"
#include "sae/model/options.h"
#include "sae/model/shard.h"

namespace sae::train {

struct Context {
  config::TrialConfig config;  ///< resolved
  model::Options options;
  model::LatentShard shard;
  std::int64_t d;      ///< width of the input
  std::int64_t d_out;  ///< width of the target; d but for transcoders
  comm::Communicator& communicator;
  ThreadPool& pool;
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
