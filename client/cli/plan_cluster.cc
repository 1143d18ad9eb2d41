#include "client/cli/plan_cluster.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "client/cli/table.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;
using A = Table::Align;

std::string Milliseconds(double ms) { return absl::StrCat(Number(ms, 3), " ms"); }

std::string MemoryText(const config::StepPlan& plan, const config::Hardware& hardware) {
  Table table({{"MEMORY OF A RANK"}, {"BYTES", A::kRight}});
  for (const config::PlanMemory& part : plan.memory) table.Add({part.part, Bytes(part.bytes)});
  table.Add({"in all", Bytes(plan.memory_bytes())});
  std::string out = table.Text();
  if (plan.memory_bytes() > hardware.memory_bytes) {
    absl::StrAppend(&out, "does not fit: a rank of ", hardware.name, " may fill ",
                    Bytes(hardware.memory_bytes),
                    ": take more devices, or train.moments: bf16 or int8\n");
  }
  return out;
}

std::string LinkText(const config::StepPlan& plan) {
  Table table({{"SENT BY A RANK IN A STEP"}, {"BYTES", A::kRight}, {"LINK"}});
  for (const config::PlanLink& link : plan.links)
    table.Add({link.purpose, Bytes(link.bytes), link.network ? "network" : "island"});
  return plan.links.empty() ? "one rank: nothing is sent\n" : table.Text();
}

std::string PhaseText(const config::StepPlan& plan) {
  Table table({{"PHASE"}, {"TIME", A::kRight}, {"SHARE", A::kRight}, {""}});
  for (const config::PlanPhase& phase : plan.phases) {
    table.Add({phase.name, Milliseconds(phase.ms),
               phase.beside ? "" : absl::StrCat(Number(100 * phase.ms / plan.step_ms, 3), "%"),
               phase.beside ? "beside the step" : ""});
  }
  table.Add({"step", Milliseconds(plan.step_ms), "", ""});
  return table.Text();
}

}  // namespace

absl::StatusOr<std::vector<ClusterTrial>> PlanOnCluster(
    const std::vector<config::TrialPoint>& points, std::int64_t d,
    const config::Cluster& cluster) {
  std::vector<ClusterTrial> out;
  for (std::size_t i = 0; i < points.size(); ++i) {
    ClusterTrial trial;
    trial.id = config::TrialId(static_cast<std::int64_t>(i));
    trial.config = points[i].config;
    trial.config.ranks = cluster.devices;
    auto plan = config::PlanStep(trial.config, d, cluster);
    if (!plan.ok()) return Annotate(plan.status(), absl::StrCat("trial ", trial.id));
    trial.plan = *std::move(plan);
    out.push_back(std::move(trial));
  }
  return out;
}

std::string ClusterText(const std::vector<ClusterTrial>& trials, std::int64_t d,
                        const config::Cluster& cluster) {
  if (trials.empty()) return "";
  const ClusterTrial& first = trials.front();
  const config::Hardware& h = cluster.hardware;
  std::string out = absl::StrCat(
      "\ntrial ", first.id, " on ", cluster.devices, " ", h.name, ": ",
      first.config.sae.latents, " latents x ", d, ", batch ", first.config.train.batch, ", ",
      first.plan.replicas, " x ", first.plan.shards, " (replicas x shards)\nceilings: product ",
      Number(h.product / 1e12, 3), " TFLOP/s, its values to the cache ",
      Number(h.product_out / 1e12, 3), " and back ", Number(h.cache / 1e12, 3), ", memory ",
      Number(h.memory / 1e12, 3), " TB/s, links ", Number(h.island_link / 1e9, 3), " and ", Number(h.network / 1e9, 3),
      " GB/s a device\n\n", MemoryText(first.plan, h), "\n", LinkText(first.plan), "\n",
      PhaseText(first.plan), "\n");
  Table table({{"TRIAL"},
               {"STEP", A::kRight},
               {"TOKENS/S", A::kRight},
               {"TOKENS/DAY", A::kRight},
               {"GPU-HOURS", A::kRight},
               {"MEMORY/RANK", A::kRight}});
  for (const ClusterTrial& trial : trials) {
    table.Add({trial.id, Milliseconds(trial.plan.step_ms), Count(trial.plan.tokens_per_second),
               Count(trial.plan.tokens_per_day()), Number(trial.plan.device_hours, 4),
               Bytes(trial.plan.memory_bytes())});
  }
  absl::StrAppend(&out, table.Text(),
                  "a floor: launch gaps, AuxK, evaluations and checkpoints come on top\n");
  return out;
}

std::string ClusterJson(const std::vector<ClusterTrial>& trials, std::int64_t d,
                        const config::Cluster& cluster) {
  json out = {{"device", cluster.hardware.name},
              {"devices", cluster.devices},
              {"width", d},
              {"trials", json::array()}};
  for (const ClusterTrial& trial : trials) {
    const config::StepPlan& plan = trial.plan;
    json one = {{"trial", trial.id},
                {"replicas", plan.replicas},
                {"shards", plan.shards},
                {"step_ms", plan.step_ms},
                {"tokens_per_second", plan.tokens_per_second},
                {"tokens_per_day", plan.tokens_per_day()},
                {"device_hours", plan.device_hours},
                {"memory_per_rank", plan.memory_bytes()},
                {"fits", plan.memory_bytes() <= cluster.hardware.memory_bytes},
                {"memory", json::object()},
                {"links", json::array()},
                {"phases", json::array()}};
    for (const config::PlanMemory& part : plan.memory) one["memory"][part.part] = part.bytes;
    for (const config::PlanLink& link : plan.links)
      one["links"].push_back({{"purpose", link.purpose},
                              {"bytes", link.bytes},
                              {"link", link.network ? "network" : "island"}});
    for (const config::PlanPhase& phase : plan.phases)
      one["phases"].push_back(
          {{"phase", phase.name}, {"ms", phase.ms}, {"beside", phase.beside}});
    out["trials"].push_back(std::move(one));
  }
  return out.dump(2) + "\n";
}

}  // namespace sae::cli
