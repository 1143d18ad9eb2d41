#include "server/service/sweep_handlers.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"
#include "sae/base/hash.h"
#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr int kDefaultPage = 50;
constexpr int kLargestPage = 1000;

absl::StatusOr<const SweepRecord*> FindSweep(const Core& core, const std::string& name,
                                             const std::string& field) {
  SAE_ASSIGN_OR_RETURN(const std::string bare, ParseSweepName(name, field));
  const SweepRecord* sweep = core.state().sweep(bare);
  if (sweep == nullptr) return absl::NotFoundError(absl::StrCat("no sweep \"", bare, "\""));
  return sweep;
}

using Found = std::pair<const SweepRecord*, const TrialRecord*>;
absl::StatusOr<Found> FindTrial(const Core& core, const std::string& name,
                                const std::string& field) {
  SAE_ASSIGN_OR_RETURN(const auto names, ParseTrialName(name, field));
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, names.first, field));
  const TrialRecord* trial = sweep->trial(names.second);
  if (trial == nullptr) {
    return absl::NotFoundError(absl::StrCat("no trial \"", names.second, "\" in sweep \"",
                                            sweep->name, "\", which has ", sweep->trials.size()));
  }
  return Found{sweep, trial};
}

/// A page of a list: the token is "POSITION.HASH", bound to what is listed.
struct Page {
  std::size_t begin = 0;
  std::size_t size = kDefaultPage;
};
std::string Token(std::size_t position, const std::string& listed) {
  return absl::StrCat(position, ".", HashToText(Xxh3(listed)).substr(5));
}
absl::StatusOr<Page> ParsePage(int page_size, const std::string& token, const std::string& listed) {
  Page page;
  if (page_size < 0)
    return absl::InvalidArgumentError(absl::StrCat("page_size: ", page_size, ", must be >= 0"));
  if (page_size > 0) page.size = static_cast<std::size_t>(std::min(page_size, kLargestPage));
  if (token.empty()) return page;
  const std::vector<std::string> parts = absl::StrSplit(token, '.');
  std::uint64_t position = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &position) ||
      Token(position, listed) != token) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_token: \"", token, "\" is not one of this list; begin without a token"));
  }
  page.begin = position;
  return page;
}

absl::Status CheckParent(const std::string& parent) {
  if (parent.empty() || parent == "projects/default") return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("parent: \"", parent, "\", the only project is projects/default"));
}

absl::StatusOr<saeloom::v1::Trial> Describe(Core& core, const SweepRecord& sweep,
                                            const TrialRecord& trial) {
  SAE_ASSIGN_OR_RETURN(const Progress progress, core.ProgressOf(sweep, trial));
  return TrialToProto(sweep, trial, core.ReasonOf(sweep, trial), progress);
}

}  // namespace

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
    if (core.state().sweep(prepared.spec.name) != nullptr) {
      return absl::AlreadyExistsError(
          absl::StrCat("name: a sweep \"", prepared.spec.name, "\" exists"));
    }
    State scratch;
    SAE_RETURN_IF_ERROR(scratch.Apply({prepared.spec.name, 1, core.Now(), "", prepared.event}));
    response = SweepToProto(*scratch.sweep(prepared.spec.name), 0);
    return absl::OkStatus();
  }
  SAE_RETURN_IF_ERROR(core.CreateSweep(prepared, request.request_id()));
  SAE_ASSIGN_OR_RETURN(const std::optional<std::string> made,
                       core.SweepOfRequest(request.request_id()));
  const std::string name = made.value_or(prepared.spec.name);
  response = SweepToProto(*core.state().sweep(name), core.head(name));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::GetSweepRequest& request,
                    saeloom::v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.name(), "name"));
  response = SweepToProto(*sweep, core.head(sweep->name));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::ListSweepsRequest& request,
                    saeloom::v1::ListSweepsResponse& response) {
  SAE_RETURN_IF_ERROR(CheckParent(request.parent()));
  SAE_ASSIGN_OR_RETURN(const Page page,
                       ParsePage(request.page_size(), request.page_token(), "sweeps"));
  // Newest first. The token counts from the oldest, so that new sweeps do not shift a page.
  const std::vector<std::string>& order = core.state().sweep_order();
  std::size_t left =
      request.page_token().empty() ? order.size() : std::min(page.begin, order.size());
  for (std::size_t i = 0; i < page.size && left > 0; ++i) {
    const std::string& name = order[--left];
    *response.add_sweeps() = SweepToProto(*core.state().sweep(name), core.head(name));
  }
  if (left > 0) response.set_next_page_token(Token(left, "sweeps"));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::CancelSweepRequest& request,
                    saeloom::v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.name(), "name"));
  SAE_RETURN_IF_ERROR(core.CancelSweep(sweep->name));
  response = SweepToProto(*sweep, core.head(sweep->name));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::GetTrialRequest& request,
                    saeloom::v1::Trial& response) {
  SAE_ASSIGN_OR_RETURN(const Found found, FindTrial(core, request.name(), "name"));
  SAE_ASSIGN_OR_RETURN(response, Describe(core, *found.first, *found.second));
  AddDetails(*found.second, response);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::ListTrialsRequest& request,
                    saeloom::v1::ListTrialsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.parent(), "parent"));
  const std::string listed = absl::StrCat("trials of ", sweep->name);
  SAE_ASSIGN_OR_RETURN(const Page page,
                       ParsePage(request.page_size(), request.page_token(), listed));
  const std::size_t end = std::min(sweep->trials.size(), page.begin + page.size);
  for (std::size_t i = page.begin; i < end; ++i) {
    SAE_ASSIGN_OR_RETURN(*response.add_trials(), Describe(core, *sweep, sweep->trials[i]));
  }
  if (end < sweep->trials.size()) response.set_next_page_token(Token(end, listed));
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::RetryTrialsRequest& request,
                    saeloom::v1::RetryTrialsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, request.parent(), "parent"));
  std::vector<std::string> wanted;
  for (const std::string& name : request.trials()) wanted.push_back(BareName(name));
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> retried,
                       core.RetryTrials(sweep->name, wanted, request.request_id()));
  for (const std::string& name : retried) response.add_trials(name);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::ListCheckpointsRequest& request,
                    saeloom::v1::ListCheckpointsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const Found found, FindTrial(core, request.parent(), "parent"));
  for (const CheckpointRecord& checkpoint : found.second->checkpoints) {
    *response.add_checkpoints() = CheckpointToProto(*found.first, *found.second, checkpoint);
  }
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::QueryMetricsRequest& request,
                    saeloom::v1::QueryMetricsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const Found found, FindTrial(core, request.trial(), "trial"));
  if (request.max_points() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_points: ", request.max_points(), ", must be >= 0"));
  }
  const std::vector<std::string> metrics(request.metrics().begin(), request.metrics().end());
  SAE_ASSIGN_OR_RETURN(const std::vector<MetricSeries> series,
                       core.QueryMetrics(*found.first, *found.second, metrics, request.max_points(),
                                         request.all_attempts()));
  response = SeriesToProto(series);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const saeloom::v1::ListWorkersRequest&,
                    saeloom::v1::ListWorkersResponse& response) {
  for (const auto& [id, worker] : core.workers()) {
    auto* out = response.add_workers();
    out->set_id(id);
    out->set_address(worker.address);
    out->set_slots(worker.slots);
    out->set_free_slots(worker.ready ? core.FreeSlots(worker) : 0);
    out->set_runs_id(worker.runs_id);
    out->set_state(worker.ready ? "ready" : "lost");
    if (worker.last_heartbeat != absl::Time())
      *out->mutable_last_heartbeat() = ToTimestamp(worker.last_heartbeat);
  }
  return absl::OkStatus();
}

}  // namespace sae::server
