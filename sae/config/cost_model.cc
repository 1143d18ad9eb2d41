#include "sae/config/cost_model.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "sae/config/mesh.h"

namespace sae::config {
namespace {

// H100, H200: measured product and copy rates, of an H100 also what products cost beside their
// FLOPs (docs/gpu.md); links: NCCL's bus rates reached on such machines; 62 and 120 GB a rank leave
// room for libraries and fragments.
std::vector<Hardware> Known() {
  Hardware h100;
  h100.name = "H100";
  h100.product = 798e12;
  h100.memory = 3.0e12;
  h100.gather = 3.0e12;
  h100.product_out = 2.7e12;
  h100.cache = 1.7e12;
  h100.island_link = 360e9;
  h100.network = 46e9;
  h100.island = 8;
  h100.memory_bytes = 62e9;
  h100.value_bytes = 2;
  Hardware h200 = h100;
  h200.name = "H200";
  h200.product = 790e12;
  h200.memory = h200.gather = 4.3e12;
  h200.memory_bytes = 120e9;
  return {h100, h200};
}

struct Sizes {
  double tokens = 0;   ///< of a replica
  double latents = 0;  ///< of a shard
  double d = 0, k = 0;
  double shards = 1, replicas = 1;
  double parameters() const { return 2 * latents * d; }
};

/// Active latents a token: k, or what the controller holds; 5% where nothing says.
double ActiveLatents(const TrialConfig& c) {
  if (c.sae.k > 0) return static_cast<double>(c.sae.k);
  if (c.sae.target_l0 > 0) return c.sae.target_l0;
  return 0.05 * static_cast<double>(c.sae.latents);
}

double MomentBytes(const TrialConfig& c) {
  if (c.train.moments == "bf16") return 4;
  if (c.train.moments == "int8") return 2 + 2 * 4.0 / 64;
  return 8;
}

/// Pr[Bin(k, p) >= c].
double BinomialTail(double k, double p, double c) {
  double sum = 0;
  for (double i = c; i <= k; ++i) {
    sum += std::exp(std::lgamma(k + 1) - std::lgamma(i + 1) - std::lgamma(k - i + 1) +
                    i * std::log(p) + (k - i) * std::log1p(-p));
  }
  return sum;
}

/// Values that a shard offers a token in the first round of exact TopK: kernels::ShardCapacity.
double OfferedValues(double k, double shards) {
  if (shards <= 1) return 0;
  double c = 1;
  while (c < k && shards * BinomialTail(k, 1 / shards, c) >= 1e-4) ++c;
  return c;
}

std::vector<PlanMemory> MemoryOf(const TrialConfig& c, const Sizes& s, const Hardware& hardware) {
  const double copies = c.train.ema > 0 ? 4 : 0;
  const double own = s.parameters() / s.replicas;  // moments live with their owner
  const double entries = s.tokens * std::min(ActiveLatents(c), s.latents);
  const double inbox = hardware.value_bytes == 2 ? 4 : 0;  // a device has the next batch beside
  const double batch = s.tokens * s.d * (4.0 * 3 + hardware.value_bytes + 4 + inbox);
  std::vector<PlanMemory> out = {{"weights", 4 * s.parameters()},
                                 {"moments", MomentBytes(c) * own},
                                 {"latents' vectors", 64 * s.latents},
                                 {"batch and errors", batch},
                                 {"codes", 40 * entries},
                                 {"chunk buffers", 2 * 64.0 * 1024 * 1024}};
  if (c.train.rows != "dense") out.push_back({"last steps of rows", 8 * s.latents / s.replicas});
  if (copies > 0) out.push_back({"mean weights", copies * s.parameters()});
  if (s.replicas > 1) out.push_back({"gradient rows", 4 * (s.parameters() + own)});
  if (c.train.decoder_layout == "columns") {
    // By token and by latent, sorted, with 8 parts of each gradient (device_winners.h); and norms.
    const double all = s.tokens * ActiveLatents(c);
    out.push_back({"codes of all ranks", 84 * all + 40 * s.latents * s.shards});
  }
  if (c.train.reduction == "fixed") {
    // One buffer of all blocks of a chunk of tokens (device_reconstructor.h), or on a CPU two.
    const double values = hardware.value_bytes == 2
                              ? std::min(s.tokens * kVirtualBlocks * s.d, 1024.0 * 1024 * 16)
                              : 512 * (kVirtualBlocks + kVirtualBlocks / s.shards) * s.d;
    out.push_back({"blocks of reconstructions", 4 * values});
  }
  return out;
}

/// A decoder cut by columns: whether ranks exchange norms of rows.
bool NormsCross(const TrialConfig& c) {
  return c.train.decoder_layout == "columns" &&
         (c.sae.decoder != "free" || c.sae.penalty == "l1_norm" || c.sae.penalty == "tanh");
}

/// Sends of one rank: an all-gather or half an all-reduce moves (P - 1) / P of the whole.
std::vector<PlanLink> LinksOf(const TrialConfig& c, const Sizes& s, const Hardware& h) {
  std::vector<PlanLink> out;
  const double share = (s.shards - 1) / s.shards;
  const double value_bytes = h.value_bytes, island = h.island;
  const bool shards_cross = s.shards > island;
  // Ranks of a replica are neighbours; those of the same shard stand s.shards apart.
  const bool replicas_cross = s.shards * s.replicas > island;
  const auto add = [&](const char* purpose, double bytes, bool network, double members) {
    const double rate = network ? std::min(h.network * members, h.island_link) : h.island_link;
    if (bytes > 0) out.push_back({purpose, bytes, network, rate});
  };
  const auto among_shards = [&](const char* purpose, double bytes) {
    add(purpose, bytes, shards_cross, island);
  };
  const auto among_replicas = [&](const char* purpose, double bytes) {
    add(purpose, bytes, replicas_cross, std::max(1.0, island / s.shards));
  };
  const bool columns = c.train.decoder_layout == "columns";
  const double k = std::min(ActiveLatents(c), s.latents * s.shards);
  among_shards("batch", s.tokens * s.d * value_bytes * share);
  if (c.sae.architecture == "topk")
    among_shards("selection", 4 * OfferedValues(k, s.shards) * s.tokens * share);
  if (columns) {
    // A device sends room for an eighth more than a rank's share, and counts (device_winners.h).
    const bool device = h.value_bytes == 2;
    const double winners = device ? 9 * k + 4 * s.shards : 8 * k;
    among_shards("winners", winners * s.tokens * share);
    among_shards("latent gradients", 8 * 4 * k * s.tokens * share);
    // Blocks of all rows' norms: all of them to all, or to their owners, who share the sums.
    const double norms = device ? 8 * 4 / s.shards + 8 : 8 * 4;
    if (NormsCross(c)) among_shards("norms", norms * s.latents * s.shards * share);
  } else {
    const double values = c.train.reduction == "fixed" ? kVirtualBlocks : 2;
    among_shards("reconstruction", values * share * s.tokens * s.d * 4);
  }
  if (s.replicas > 1) {
    const double across = (s.replicas - 1) / s.replicas;
    among_replicas("gradients", across * s.parameters() * 4);
    among_replicas("updated rows", across * s.parameters() * 4);
  }
  return out;
}

/// Of the latents of a shard, where `entries` fall on all of them alike: in fact on fewer.
double TouchedShare(const Sizes& s, double entries) { return 1 - std::exp(-entries / s.latents); }

double Ms(double amount, double rate) { return rate > 0 ? 1e3 * amount / rate : 0; }

std::vector<PlanPhase> PhasesOf(const TrialConfig& c, const Sizes& s, const Hardware& h,
                                const std::vector<PlanLink>& links) {
  const double product = Ms(2 * s.tokens * s.latents * s.d, h.product);
  const double select = h.cache > 0 ? Ms(4 * s.tokens * s.latents, h.cache) : h.selection * product;
  // A rank's own winners: gathers of decoder rows for the reconstruction and for the gradient (the
  // second of rows just read), of x and the error for the rows' gradients; rows of tokens
  // themselves.
  const double entries = s.tokens * ActiveLatents(c) / s.shards;
  const double value = h.value_bytes;
  const double sparse =
      entries * s.d * value + entries * s.d * (value + 4) + s.tokens * s.d * (2 * 4 + value);
  // Weights and moments, read and written: of all rows, or of touched ones, with a look at the list
  // of each. Deferred decoder rows are read and written when they catch up and again by the update.
  const double all = s.parameters() / s.replicas * 2 * (4 + MomentBytes(c));
  const double touched = TouchedShare(s, entries * s.replicas);
  const double update = c.train.rows == "lazy"       ? all * touched + 8 * s.latents
                        : c.train.rows == "deferred" ? all * (0.5 + touched) + 16 * s.latents
                                                     : all;
  std::vector<PlanPhase> out = {{"encoder product", product}};
  if (h.product_out > 0)
    out.push_back({"products to cache", Ms(4 * s.tokens * s.latents, h.product_out)});
  out.push_back({"selection", select});
  out.push_back({"sparse decode and gradients", Ms(sparse, h.gather)});
  if (c.train.reduction == "fixed") {  // own blocks written, all of them read
    const double blocks = kVirtualBlocks * (1 + 1 / s.shards) * s.tokens * s.d * 4;
    out.push_back({"blocks of reconstructions", Ms(blocks, h.memory)});
  }
  out.push_back({"row update", Ms(update, h.memory)});
  if (NormsCross(c) && c.sae.decoder != "free")  // by their norms, once all blocks are known
    out.push_back({"rescaled rows", Ms(2 * 4 * s.parameters() / 2, h.memory)});
  if (s.replicas > 1) {  // written out, then the owned ones read twice
    const double own = s.parameters() / s.replicas;
    out.push_back({"gradient rows", Ms(4 * (s.parameters() + 2 * own), h.memory)});
  }
  for (const PlanLink& link : links) {
    out.push_back({absl::StrCat("exchange: ", link.purpose), Ms(link.bytes, link.rate),
                   link.purpose == "batch"});
  }
  return out;
}

}  // namespace

double StepPlan::memory_bytes() const {
  double sum = 0;
  for (const PlanMemory& part : memory) sum += part.bytes;
  return sum;
}

absl::StatusOr<Cluster> ParseCluster(const std::string& text) {
  Cluster cluster;
  std::string name = text;
  const std::size_t x = text.find('x');
  if (x != std::string::npos) {
    const auto parsed = std::from_chars(text.data(), text.data() + x, cluster.devices);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + x || cluster.devices < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("cluster ", text, ": write a count and a device, such as 8xH100"));
    }
    name = text.substr(x + 1);
  }
  std::string known;
  for (const Hardware& h : Known()) {
    if (h.name == name) {
      cluster.hardware = h;
      return cluster;
    }
    absl::StrAppend(&known, known.empty() ? "" : ", ", h.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cluster ", text, ": unknown device \"", name, "\": known are ", known));
}

absl::StatusOr<StepPlan> PlanStep(const TrialConfig& config, std::int64_t d,
                                  const Cluster& cluster) {
  if (d < 1) return absl::InvalidArgumentError(absl::StrCat("plan: width ", d, ": give --width"));
  TrialConfig given = config;
  ResolveReplicasOnDevice(&given);
  const TrialConfig c = Resolve(given, d);
  StepPlan plan;
  plan.ranks = c.ranks;
  plan.replicas = Replicas(c);
  plan.shards = plan.ranks / plan.replicas;
  if (plan.shards < 1 || c.sae.latents % plan.shards != 0) {
    return absl::InvalidArgumentError(absl::StrCat("plan: ", plan.shards,
                                                   " shards do not divide sae.latents ",
                                                   c.sae.latents, ": use a power of two of both"));
  }
  Sizes s;
  s.tokens = static_cast<double>(c.train.batch) / static_cast<double>(plan.replicas);
  s.latents = static_cast<double>(c.sae.latents / plan.shards);
  s.d = static_cast<double>(d);
  s.shards = static_cast<double>(plan.shards);
  s.replicas = static_cast<double>(plan.replicas);
  const Hardware& h = cluster.hardware;
  plan.memory = MemoryOf(c, s, h);
  plan.links = LinksOf(c, s, h);
  plan.phases = PhasesOf(c, s, h, plan.links);
  double beside = 0;
  for (const PlanPhase& phase : plan.phases) (phase.beside ? beside : plan.step_ms) += phase.ms;
  plan.step_ms = std::max(plan.step_ms, beside);
  plan.tokens_per_second = static_cast<double>(c.train.batch) / plan.step_ms * 1e3;
  plan.device_hours =
      c.train.tokens / plan.tokens_per_second / 3600 * static_cast<double>(plan.ranks);
  return plan;
}

}  // namespace sae::config
