#include "sae/config/mesh.h"

#include <algorithm>
#include <cmath>

namespace sae::config {

std::string WhyOneReplica(const TrialConfig& c) {
  if (c.train.reduction == "fixed")
    return "train.reduction: fixed sums over replicas in no fixed order: use fast";
  if (c.train.decoder_layout == "columns")
    return "train.decoder_layout: columns has one replica: use latents";
  if (c.train.rows == "deferred")
    return "train.rows: deferred rows are read by all replicas before their owner has made them: "
           "use dense or lazy";
  return "";
}

std::string WhyOneReplicaOnDevice(const TrialConfig& c) {
  if (std::string why = WhyOneReplica(c); !why.empty()) return why;
  if (c.sae.frequency_coefficient > 0)
    return "sae.frequency_coefficient looks at each replica's own tokens on GPUs: set it to 0";
  return "";
}

void ResolveReplicasOnDevice(TrialConfig* c) {
  if (!c->train.replicas && !WhyOneReplicaOnDevice(*c).empty()) c->train.replicas = 1;
}

std::int64_t AutoReplicas(const TrialConfig& c) {
  const std::int64_t ranks = std::max<std::int64_t>(1, c.ranks);
  if (ranks == 1 || ranks > kMostRanks || c.train.batch < 1 || c.sae.latents < 1 ||
      !WhyOneReplica(c).empty()) {
    return 1;
  }
  const double best = std::sqrt(0.75 * static_cast<double>(c.train.batch) *
                                static_cast<double>(ranks) / static_cast<double>(c.sae.latents));
  std::int64_t chosen = 1;
  double distance = std::abs(std::log(best));
  const auto consider = [&](std::int64_t d) {
    if (c.train.batch % d != 0) return;
    const double now = std::abs(std::log(static_cast<double>(d) / best));
    if (now > distance || (now == distance && d > chosen)) return;
    distance = now;
    chosen = d;
  };
  for (std::int64_t d = 1; d * d <= ranks; ++d) {
    if (ranks % d != 0) continue;
    consider(d);
    consider(ranks / d);
  }
  return chosen;
}

std::int64_t Replicas(const TrialConfig& c) {
  return std::max<std::int64_t>(1, c.train.replicas.value_or(1));
}

}  // namespace sae::config
