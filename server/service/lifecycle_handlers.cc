#include "server/service/lifecycle_handlers.h"

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"
#include "server/service/convert.h"
#include "server/service/list_handlers.h"
#include "server/service/lookup.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

/// Finds the bare name and answers with the sweep as it is after `verb`.
template <class Verb>
absl::Status OnSweep(Core& core, const std::string& name, Verb verb, v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(const std::string bare, ParseSweepName(name, "name"));
  SAE_RETURN_IF_ERROR(verb(bare));
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, bare, "name"));
  response = SweepToProto(*sweep, core.head(bare));
  return absl::OkStatus();
}

template <class Request>
absl::Status OnTrial(Core& core, TrialVerb verb, const Request& request, v1::Trial& response) {
  SAE_ASSIGN_OR_RETURN(const auto names, ParseTrialName(request.name(), "name"));
  SAE_RETURN_IF_ERROR(core.ChangeTrial(verb, names.first, names.second, KeyOf(request)));
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.name(), "name"));
  SAE_ASSIGN_OR_RETURN(response, Describe(core, *found.first, *found.second));
  return absl::OkStatus();
}

/// By the rules of a spec: every other field of this one is well.
absl::Status CheckValues(const SweepUpdated& update) {
  config::SweepSpec spec;
  spec.name = "s";
  spec.store = "/store";
  spec.trial.sae.latents = 1024;
  spec.trial.sae.k = 8;
  spec.trial.train.tokens = 1e5;
  spec.priority = update.priority.value_or(0);
  spec.max_concurrent = update.max_concurrent.value_or(0);
  spec.queue = update.queue.value_or("");
  spec.labels = update.labels.value_or(spec.labels);
  return config::Validate(spec);
}

absl::StatusOr<SweepUpdated> UpdateOf(const v1::UpdateSweepRequest& request) {
  const v1::SweepSpec& spec = request.sweep().spec();
  SweepUpdated update;
  std::vector<std::string> problems;
  if (request.update_mask().paths().empty())
    problems.push_back("update_mask: is empty; name the fields to change, as spec.priority");
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "spec.priority") {
      update.priority = spec.priority();
    } else if (path == "spec.max_concurrent") {
      update.max_concurrent = spec.max_concurrent();
    } else if (path == "spec.labels") {
      update.labels.emplace(spec.labels().begin(), spec.labels().end());
    } else if (path == "spec.queue") {
      update.queue = spec.queue();
    } else {
      problems.push_back(
          absl::StrCat("update_mask: \"", path, "\" cannot be changed, only ",
                       "spec.priority, spec.max_concurrent, spec.labels, spec.queue"));
    }
  }
  if (const absl::Status status = CheckValues(update); !status.ok()) {
    const std::vector<std::string> parts = absl::StrSplit(Message(status), "; ");
    for (const std::string& part : parts) problems.push_back("spec." + part);
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
  return update;
}

/// FAILED and CANCELLED ones among those that the request picks.
absl::StatusOr<std::vector<std::string>> PickedForRetry(const SweepRecord& sweep,
                                                        const v1::RetryTrialsRequest& request) {
  std::vector<std::string> out;
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                       TrialsThatMatch(sweep, request.filter()));
  for (const std::string& name : names) {
    const TrialState state = sweep.trial(name)->state;
    const bool cancelled = state == TrialState::kCancelled;
    if (state == TrialState::kFailed || cancelled) out.push_back(name);
  }
  return out;
}

}  // namespace

absl::Status Handle(Core& core, const v1::UpdateSweepRequest& request, v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(const SweepUpdated update, UpdateOf(request));
  return OnSweep(
      core, request.sweep().name(),
      [&](const std::string& name) {
        return core.UpdateSweep(name, update, request.sweep().etag(), KeyOf(request));
      },
      response);
}

absl::Status Handle(Core& core, const v1::DeleteSweepRequest& request, google::protobuf::Empty&) {
  SAE_ASSIGN_OR_RETURN(const std::string name, ParseSweepName(request.name(), "name"));
  return core.DeleteSweep(name, KeyOf(request));
}

absl::Status Handle(Core& core, const v1::PauseSweepRequest& request, v1::Sweep& response) {
  return OnSweep(
      core, request.name(),
      [&](const std::string& name) { return core.PauseSweep(name, KeyOf(request)); }, response);
}

absl::Status Handle(Core& core, const v1::ResumeSweepRequest& request, v1::Sweep& response) {
  return OnSweep(
      core, request.name(),
      [&](const std::string& name) { return core.ResumeSweep(name, KeyOf(request)); }, response);
}

absl::Status Handle(Core& core, const v1::CancelSweepRequest& request, v1::Sweep& response) {
  const bool graceful = request.mode() == v1::CancelSweepRequest::MODE_GRACEFUL;
  return OnSweep(
      core, request.name(),
      [&](const std::string& name) { return core.CancelSweep(name, graceful, KeyOf(request)); },
      response);
}

absl::Status Handle(Core& core, const v1::RetryTrialsRequest& request,
                    v1::RetryTrialsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const std::string name, ParseSweepName(request.parent(), "parent"));
  const bool picks = !request.filter().empty() || request.missing();
  if (picks && !request.trials().empty())
    return absl::InvalidArgumentError("trials: not together with filter or missing");
  if (!request.filter().empty() && request.missing())
    return absl::InvalidArgumentError("missing: not together with filter");
  const RequestKey key = KeyOf(request);
  std::vector<std::string> wanted;
  for (const std::string& trial : request.trials()) wanted.push_back(BareName(trial));
  SAE_ASSIGN_OR_RETURN(const auto answer, core.FirstAnswer(key, "RetryTrials", name));
  if (picks && !answer) {
    SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, name, "parent"));
    SAE_ASSIGN_OR_RETURN(wanted, PickedForRetry(*sweep, request));
    if (wanted.empty()) return absl::OkStatus();  // an empty list would mean all that failed
  }
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> retried, core.RetryTrials(name, wanted, key));
  for (const std::string& trial : retried) response.add_trials(trial);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::PauseTrialRequest& request, v1::Trial& response) {
  return OnTrial(core, TrialVerb::kPause, request, response);
}
absl::Status Handle(Core& core, const v1::ResumeTrialRequest& request, v1::Trial& response) {
  return OnTrial(core, TrialVerb::kResume, request, response);
}
absl::Status Handle(Core& core, const v1::StopTrialRequest& request, v1::Trial& response) {
  return OnTrial(core, TrialVerb::kStop, request, response);
}
absl::Status Handle(Core& core, const v1::PromoteTrialRequest& request, v1::Trial& response) {
  return OnTrial(core, TrialVerb::kPromote, request, response);
}

}  // namespace sae::server
