#include "server/service/sweep_handlers.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"
#include "sae/base/hash.h"
#include "server/service/convert.h"
#include "server/service/lookup.h"
#include "server/service/sampling.h"

namespace sae::server {

absl::StatusOr<PreparedSweep> PrepareCreate(const saeloom::v1::CreateSweepRequest& request,
                                            std::size_t max_trials) {
  SAE_RETURN_IF_ERROR(CheckParent(request.parent()));
  if (!request.has_spec()) return absl::InvalidArgumentError("spec: is missing");
  SAE_ASSIGN_OR_RETURN(config::SweepSpec spec, sae::FromProto(request.spec()));
  return PrepareSweep(spec, max_trials);
}

absl::Status HandleCreate(Core& core, const saeloom::v1::CreateSweepRequest& request,
                          const PreparedSweep& prepared, saeloom::v1::Sweep& response) {
  if (request.validate_only()) {
    SAE_RETURN_IF_ERROR(core.CheckQueue(prepared.spec.queue));
    const std::string& name = prepared.spec.name;
    if (core.state().sweep(name) != nullptr || core.state().deleted().contains(name)) {
      return absl::AlreadyExistsError(
          absl::StrCat("name: a sweep \"", name,
                       "\" exists, or did; choose another name (names are never used twice)"));
    }
    State scratch;
    SAE_RETURN_IF_ERROR(scratch.Apply({prepared.spec.name, 1, core.Now(), "", prepared.event}));
    response = SweepToProto(*scratch.sweep(prepared.spec.name), 0);
    return absl::OkStatus();
  }
  const RequestKey key = KeyOf(request);
  SAE_RETURN_IF_ERROR(core.CreateSweep(prepared, key));
  SAE_ASSIGN_OR_RETURN(const std::optional<std::string> made, core.SweepOfRequest(key));
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep,
                       FindSweep(core, made.value_or(prepared.spec.name), "name"));
  response = SweepToProto(*sweep, core.head(sweep->name));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::GetSweepRequest& request,
                    saeloom::v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.name(), "name"));
  response = SweepToProto(*sweep, core.head(sweep->name));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::GetTrialRequest& request,
                    saeloom::v1::Trial& response) {
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.name(), "name"));
  SAE_ASSIGN_OR_RETURN(response, Describe(core, *found.first, *found.second));
  AddDetails(*found.second, response);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::QueryMetricsRequest& request,
                    saeloom::v1::QueryMetricsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.trial(), "trial"));
  if (request.max_points() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_points: ", request.max_points(), ", must be >= 0"));
  }
  const std::vector<std::string> metrics(request.metrics().begin(), request.metrics().end());
  if (!saeloom::v1::QueryMetricsRequest::Sampling_IsValid(request.sampling())) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling: ", request.sampling(), " is unknown"));
  }
  SAE_ASSIGN_OR_RETURN(
      std::vector<MetricSeries> series,
      core.QueryMetrics(*found.first, *found.second, metrics, 0, request.all_attempts()));
  for (MetricSeries& s : series) {
    if (request.after_step() > 0) s = AfterStep(s, request.after_step());
    s = Sample(s, request.max_points(), request.sampling());
  }
  response = SeriesToProto(series);
  return absl::OkStatus();
}

}  // namespace sae::server
