#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "client/cli/exit_code.h"
#include "client/cli/plan_cluster.h"
#include "client/cli/plan_server.h"
#include "client/cli/print.h"
#include "client/cli/spec_file.h"
#include "client/cli/table.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;
using A = Table::Align;

constexpr std::size_t kShown = 40;

struct PlanOptions {
  std::string file;
  bool all = false;
  std::string gpus;        ///< "512xH100"; "" = no cluster
  std::int64_t width = 0;  ///< 0 = the store's
  bool exit_code = false;
};

struct Plan {
  config::SweepSpec spec;
  std::vector<config::TrialPoint> points;
  std::string note;  ///< why the width is not known; "" = it is
};

/// Without its points.
absl::StatusOr<Plan> Checked(const PlanOptions& options, const World& world) {
  Plan plan;
  SAE_ASSIGN_OR_RETURN(plan.spec, LoadSpec(options.file, world));
  if (const absl::Status s = config::Validate(plan.spec); !s.ok()) return Annotate(s, options.file);
  const absl::Status store = ReadStoreManifest(plan.spec, world);
  if (absl::IsNotFound(store)) {
    plan.note = Message(store);  // to plan before the harvest is fine
  } else if (!store.ok()) {
    return Annotate(store, options.file);
  } else if (const absl::Status s = config::Validate(plan.spec); !s.ok()) {
    return Annotate(s, options.file);
  }
  return plan;
}

absl::StatusOr<Plan> MakePlan(const PlanOptions& options, const World& world) {
  SAE_ASSIGN_OR_RETURN(Plan plan, Checked(options, world));
  SAE_ASSIGN_OR_RETURN(plan.points, config::ExpandTrials(plan.spec));
  return plan;
}

std::string PointText(const config::TrialPoint& point) {
  const std::string text = config::ToText(point);
  return text.empty() ? "(as in trial:)" : text;
}

struct Totals {
  double tokens = 0;
  std::int64_t slots = 0;        ///< of the largest trial
  std::int64_t memory = 0;       ///< of the largest rank
  std::int64_t checkpoints = 0;  ///< bytes, with two kept and a third being written
};

std::int64_t RankBytes(const Plan& plan, const config::TrialConfig& config) {
  return config::EstimateMemory(config, plan.spec.store_d, plan.spec.store_target_d).total();
}

Totals Sum(const Plan& plan) {
  Totals t;
  for (const config::TrialPoint& p : plan.points) {
    t.tokens += p.config.train.tokens;
    t.slots = std::max(t.slots, p.config.ranks);
    t.memory = std::max(t.memory, RankBytes(plan, p.config));
    t.checkpoints +=
        3 * config::EstimateCheckpointBytes(p.config, plan.spec.store_d, plan.spec.store_target_d);
  }
  return t;
}

std::string PlanText(const Plan& plan, bool all) {
  const bool width_known = plan.spec.store_d > 0;
  Table table({{"TRIAL"},
               {"PARAMETERS"},
               {"SLOTS", A::kRight},
               {"STEPS", A::kRight},
               {"TOKENS", A::kRight},
               {"MEMORY/RANK", A::kRight}});
  const std::size_t shown = all ? plan.points.size() : std::min(plan.points.size(), kShown);
  for (std::size_t i = 0; i < shown; ++i) {
    const config::TrialConfig& c = plan.points[i].config;
    table.Add({config::TrialId(static_cast<std::int64_t>(i)), PointText(plan.points[i]),
               absl::StrCat(c.ranks), absl::StrCat(config::TotalSteps(c)), Count(c.train.tokens),
               width_known ? Bytes(static_cast<double>(RankBytes(plan, c))) : "?"});
  }
  std::string out = absl::StrCat(
      "sweep ", plan.spec.name, ": ", plan.points.size(), " trials (", plan.spec.search,
      ")\nstore ", plan.spec.store, width_known ? absl::StrCat(", width ", plan.spec.store_d) : "",
      plan.spec.store_target_d > 0 ? absl::StrCat(", targets of width ", plan.spec.store_target_d)
                                   : "",
      "\n\n", table.Text());
  if (shown < plan.points.size())
    absl::StrAppend(&out, "… ", plan.points.size() - shown, " more: --all shows them\n");
  const Totals t = Sum(plan);
  absl::StrAppend(&out, "\nslots a trial     ", t.slots, "\ntokens in all     ", Count(t.tokens));
  if (width_known) {
    absl::StrAppend(&out, "\nmemory a rank     ", Bytes(static_cast<double>(t.memory)),
                    " at most\ncheckpoints       ", Bytes(static_cast<double>(t.checkpoints)),
                    " on disk at most");
  }
  absl::StrAppend(&out, "\nobjective         ", plan.spec.minimize ? "smallest " : "largest ",
                  plan.spec.objective_metric);
  for (const config::Constraint& c : plan.spec.constraints)
    absl::StrAppend(&out, ", ", config::ToText(c));
  out += "\n";
  if (!plan.note.empty()) absl::StrAppend(&out, "note: ", plan.note, "\n");
  return out;
}

json PlanJson(const Plan& plan) {
  const Totals t = Sum(plan);
  json out = {{"name", plan.spec.name},
              {"store", plan.spec.store},
              {"store_d", plan.spec.store_d},
              {"store_target_d", plan.spec.store_target_d},
              {"search", plan.spec.search},
              {"slots_per_trial", t.slots},
              {"tokens", t.tokens}};
  if (plan.spec.store_d > 0) {
    out["memory_per_rank"] = t.memory;
    out["checkpoint_bytes"] = t.checkpoints;
  }
  if (!plan.note.empty()) out["note"] = plan.note;
  out["trials"] = json::array();
  for (std::size_t i = 0; i < plan.points.size(); ++i) {
    const config::TrialPoint& p = plan.points[i];
    json parameters = json::object();
    for (const auto& [path, value] : p.assignments)
      parameters[path] = json::parse(value, nullptr, false);
    json trial = {{"trial", config::TrialId(static_cast<std::int64_t>(i))},
                  {"parameters", parameters},
                  {"slots", p.config.ranks},
                  {"steps", config::TotalSteps(p.config)}};
    if (plan.spec.store_d > 0) trial["memory_per_rank"] = RankBytes(plan, p.config);
    out["trials"].push_back(std::move(trial));
  }
  return out;
}

absl::Status ShowCluster(const PlanOptions& options, const Plan& plan, Session& session) {
  SAE_ASSIGN_OR_RETURN(const config::Cluster cluster, config::ParseCluster(options.gpus));
  const std::int64_t d = plan.spec.store_d > 0 ? plan.spec.store_d : options.width;
  if (d < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the width of the activations is not known (", plan.note, "): give --width"));
  }
  SAE_ASSIGN_OR_RETURN(const std::vector<ClusterTrial> trials,
                       PlanOnCluster(plan.points, d, cluster));
  Print(session, session.json() ? MachineText(session, ClusterJson(trials, d, cluster))
                                : ClusterText(trials, d, cluster));
  return absl::OkStatus();
}

absl::Status ShowPlan(const PlanOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const Plan plan, MakePlan(options, session.world));
  if (!options.gpus.empty()) return ShowCluster(options, plan, session);
  std::optional<ServerPlan> server;
  std::string address;
  if (options.exit_code || !session.connection.server.empty() ||
      !session.connection.context.empty()) {
    SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
    SAE_ASSIGN_OR_RETURN(server, AskServer(*api, plan.spec));
    address = api->address().target;
  }
  if (session.json()) {
    json out = PlanJson(plan);
    if (server) out["coordinator"] = json::parse(ServerPlanJson(*server, address));
    Print(session, MachineText(session, out.dump(2, ' ', false, json::error_handler_t::replace)));
  } else {
    Print(session, PlanText(plan, options.all) + (server ? ServerPlanText(*server, address) : ""));
  }
  if (options.exit_code) session.exit_code = server->exists ? 0 : kExitWouldChange;
  return absl::OkStatus();
}

/// With --exit-code 1 says "would create", so that no error may.
absl::Status ShowPlanOrFail(const PlanOptions& options, Session& session) {
  const absl::Status status = ShowPlan(options, session);
  if (!status.ok() && options.exit_code) session.exit_code = kExitPlanFailed;
  return status;
}

absl::Status ShowValid(const PlanOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const Plan plan, Checked(options, session.world));
  SAE_ASSIGN_OR_RETURN(const std::size_t trials, config::CountTrials(plan.spec));
  if (session.json()) {
    json out = {{"valid", true}, {"name", plan.spec.name}, {"trials", trials}};
    if (!plan.note.empty()) out["note"] = plan.note;
    Print(session, MachineText(session, out.dump(2)));
    return absl::OkStatus();
  }
  std::string text = absl::StrCat(options.file, ": valid, ", trials, " trials\n");
  if (!plan.note.empty()) absl::StrAppend(&text, "note: ", plan.note, "\n");
  Print(session, text);
  return absl::OkStatus();
}

}  // namespace

void AddPlan(CLI::App& app, Session& session) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* verb = AddVerb(
      app, session, "plan", "what a sweep would run: trials, slots, memory (no coordinator needed)",
      {"% examples/demo.yaml", "% examples/scale.yaml --gpus 512xH100 --width 4096",
       "% examples/demo.yaml --server 127.0.0.1:7411", "% examples/demo.yaml --exit-code -o json"},
      {}, "With --server or --context also what the coordinator would do with it now.");
  verb->add_option("spec,-f,--file", options->file, "the sweep's YAML file")->required();
  verb->add_flag("--all", options->all, "every trial, not the first 40");
  verb->add_option("--gpus", options->gpus,
                   "what a step would cost on so many devices, such as 512xH100");
  verb->add_option("--width", options->width, "of the activations, where there is no store yet");
  verb->add_flag("--exit-code", options->exit_code,
                 "ask the coordinator, and end with 0: it has this very sweep, 1: it would be "
                 "created, 255: an error");
  OnRun(verb, session, [options, &session] { return ShowPlanOrFail(*options, session); });
}

void AddValidate(CLI::App& app, Session& session) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* verb = AddVerb(app, session, "validate",
                           "check a sweep's file, every problem at once (no coordinator needed)",
                           {"% examples/demo.yaml", "% -f examples/demo.yaml -o json"});
  verb->add_option("spec,-f,--file", options->file, "the sweep's YAML file")->required();
  OnRun(verb, session, [options, &session] { return ShowValid(*options, session); });
}

}  // namespace sae::cli
