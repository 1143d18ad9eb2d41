#pragma once
// How the ranks of a trial are laid out: P ranks = D replicas, which read different rows of a
// batch, times L latent shards. Pure functions of the config. Source: spec performance.md (f),
// "Data vs latent split".

#include <cstdint>
#include <string>

#include "sae/config/run_config.h"

namespace sae::config {

/// More than any gang has; Validate refuses more ranks.
inline constexpr std::int64_t kMostRanks = 65536;

/// Parts of a dictionary that `train.reduction: fixed` sums by themselves; the ranks divide it.
inline constexpr std::int64_t kVirtualBlocks = 16;

/// What keeps a trial from having more than one replica, with the remedy; empty: nothing.
std::string WhyOneReplica(const TrialConfig& config);

/// The same of a GPU's step, which lacks one more thing with replicas.
std::string WhyOneReplicaOnDevice(const TrialConfig& config);

/// Where replicas are auto and WhyOneReplicaOnDevice says something, they become 1.
void ResolveReplicasOnDevice(TrialConfig* config);

/// The admissible D (it divides ranks and batch) nearest in ratio to sqrt(0.75 B P / n), which
/// balances bytes of activations against bytes of gradients; of two equally near the smaller. 1
/// where WhyOneReplica says so.
std::int64_t AutoReplicas(const TrialConfig& config);

/// train.replicas where it is set, else 1.
std::int64_t Replicas(const TrialConfig& resolved);

}  // namespace sae::config
