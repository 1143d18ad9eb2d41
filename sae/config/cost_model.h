#pragma once
// What a step costs before it runs: bytes a rank keeps, bytes on each link, time by phase, from stated
// ceilings of the hardware. Pure functions of values; thread-safe. A phase is its FLOPs or bytes over
// the ceiling that binds it; phases of a step follow each other, reading of the next batch goes on
// beside them. What is left out: launch gaps, AuxK (few latents are dead in the mean), evaluation,
// checkpoints. Sources: spec performance.md (d)-(f); bench/plan_bench compares the CPU form of it
// with measured steps, bench/step_gpu_bench the other.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/run_config.h"

namespace sae::config {

/// One device and its links. Rates are what is reached in practice, not what is advertised.
struct Hardware {
  std::string name;
  double product = 0;       ///< FLOP/s of the encoder's product
  double memory = 0;        ///< bytes/s of long copies
  double gather = 0;        ///< bytes/s of rows read at random
  double product_out = 0;   ///< bytes/s at which products leave the units that make them; 0: hidden
  double cache = 0;         ///< bytes/s at which a chunk of products is read again; 0: hidden
  double selection = 0;     ///< share of the product's time that selecting adds (CPUs)
  double island_link = 0;   ///< bytes/s of a device to others of its island
  /// bytes/s of a device's own way to other islands. A group that has several members in an island
  /// brings each byte there once, over all of their ways.
  double network = 0;
  int island = 1;           ///< devices that share a fast link
  double memory_bytes = 0;  ///< that a rank may fill
  int value_bytes = 4;      ///< of a weight as products and gathers read it: 2 = bf16 halves
};

struct Cluster {
  int devices = 1;
  Hardware hardware;
};
/// "512xH100", "8xH200", "H100". INVALID_ARGUMENT names what is known.
[[nodiscard]] absl::StatusOr<Cluster> ParseCluster(const std::string& text);

struct PlanPhase {
  std::string name;
  double ms = 0;
  bool beside = false;  ///< goes on beside the others: counts only where it is longer than they
};
struct PlanLink {
  std::string purpose;
  double bytes = 0;  ///< that a rank sends in a step
  bool network = false;
  double rate = 0;  ///< bytes/s that bind it
};
struct PlanMemory {
  std::string part;
  double bytes = 0;
};

struct StepPlan {
  std::int64_t ranks = 1, replicas = 1, shards = 1;
  std::vector<PlanMemory> memory;  ///< of a rank
  std::vector<PlanLink> links;
  std::vector<PlanPhase> phases;
  double step_ms = 0;
  double tokens_per_second = 0;
  double memory_bytes() const;
  double tokens_per_day() const { return tokens_per_second * 86400; }
  /// Of the whole run.
  double device_hours = 0;
};

/// `config` is valid; config.ranks says how many devices of the cluster a trial takes. Replicas:
/// mesh.h. INVALID_ARGUMENT where shards do not divide the latents. `d`: width of x and of the
/// target.
[[nodiscard]] absl::StatusOr<StepPlan> PlanStep(const TrialConfig& config, std::int64_t d,
                                                const Cluster& cluster);

}  // namespace sae::config
