#include "client/cli/plan_server.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"

#include "client/cli/json_view.h"
#include "client/cli/names.h"
#include "client/cli/table.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

/// As the service keeps it: defaults filled in, one form, without what `sweep set` may have
/// changed.
absl::StatusOr<std::string> Canonical(const saeloom::v1::SweepSpec& spec) {
  SAE_ASSIGN_OR_RETURN(config::SweepSpec parsed, FromProto(spec));
  parsed.priority = 0;
  parsed.max_concurrent = 0;
  parsed.queue.clear();
  parsed.labels.clear();
  return config::ToJson(parsed);
}

}  // namespace

absl::StatusOr<ServerPlan> AskServer(Api& api, const config::SweepSpec& spec) {
  ServerPlan out;
  saeloom::v1::PreviewSweepRequest request;
  *request.mutable_spec() = ToProto(spec);
  auto plan = api.Call(&saeloom::v1::SweepService::StubInterface::PreviewSweep, request);
  if (plan.ok()) {
    out.plan = *std::move(plan);
  } else if (!absl::IsUnimplemented(plan.status())) {
    return plan.status();
  }
  const auto sweep = api.GetSweep(spec.name);
  if (absl::IsNotFound(sweep.status())) return out;
  SAE_RETURN_IF_ERROR(sweep.status());
  SAE_ASSIGN_OR_RETURN(const std::string theirs, Canonical(sweep->spec()));
  SAE_ASSIGN_OR_RETURN(const std::string ours, Canonical(request.spec()));
  out.exists = theirs == ours;
  out.name_taken = !out.exists;
  return out;
}

std::string ServerPlanText(const ServerPlan& plan, const std::string& address) {
  std::string out = absl::StrCat("\nat ", address, ": ");
  if (plan.exists) {
    out += "no change, this very sweep is there\n";
  } else if (plan.name_taken) {
    out += "the name is taken by another sweep: give another with submit --name\n";
  } else {
    out += "would be created\n";
  }
  if (!plan.plan) return out + "this coordinator does not preview sweeps (UNIMPLEMENTED)\n";
  const auto& p = *plan.plan;
  absl::StrAppend(
      &out, p.wait().empty() ? "a trial would start at once" : "would wait: " + p.wait(), "\n");
  if (!p.rungs().empty()) {
    absl::StrAppend(
        &out, "rungs at ",
        absl::StrJoin(p.rungs(), ", ", [](std::string* text, double x) { *text += Count(x); }),
        " tokens\n");
  }
  if (!p.duplicates().empty())
    absl::StrAppend(
        &out, "same configuration as ",
        absl::StrJoin(p.duplicates(), ", ",
                      [](std::string* text, const std::string& name) { *text += ShortName(name); }),
        "\n");
  return out;
}

std::string ServerPlanJson(const ServerPlan& plan, const std::string& address) {
  nlohmann::ordered_json out = {
      {"address", address}, {"exists", plan.exists}, {"name_taken", plan.name_taken}};
  if (plan.plan) out["plan"] = nlohmann::ordered_json::parse(JsonText(*plan.plan));
  return out.dump();
}

}  // namespace sae::cli
