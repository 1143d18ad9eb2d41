// AddPoints, ForkSweep and PreviewSweep: what is slow about them needs no core.
#include <algorithm>
#include <unordered_set>

#include "absl/strings/str_join.h"

#include "proto/convert/sweep_convert.h"
#include "sae/config/search_rungs.h"
#include "server/core/point_keys.h"
#include "server/service/convert.h"
#include "server/service/lifecycle_handlers.h"
#include "server/service/lookup.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

constexpr int kDefaultPoints = 10;
constexpr std::size_t kMostDuplicates = 20;
constexpr std::int64_t kMoreDraws = 64;

std::string TextOf(const TrialAssignments& point) { return config::ToText({point, {}}); }

/// Of a trial of `need` slots, if it were submitted now.
std::string WhyNothingStarts(const Core& core, std::int64_t need) {
  int largest = 0, free = 0;
  std::string cordoned;
  for (const auto& [id, worker] : core.workers()) {
    if (!worker.ready) continue;
    if (const auto cordon = core.state().fleet().cordons.find(id);
        cordon != core.state().fleet().cordons.end()) {
      absl::StrAppend(&cordoned, cordoned.empty() ? "" : ", ", id, " (", cordon->second.reason,
                      ")");
      continue;
    }
    largest = std::max(largest, worker.slots);
    free = std::max(free, core.FreeSlots(worker));
  }
  if (largest == 0) {
    return cordoned.empty() ? "no worker is registered" : "all workers are cordoned: " + cordoned;
  }
  if (need > largest) {
    return absl::StrCat("needs ", need, need == 1 ? " slot" : " slots", "; the largest worker has ",
                        largest);
  }
  if (need > free)
    return absl::StrCat("waiting for ", need, need == 1 ? " free slot" : " free slots");
  return "";
}

/// The next `count` draws that are valid, for those before them that the sweep has already.
absl::Status DrawMore(config::SweepSpec spec, std::int64_t count,
                      std::vector<TrialAssignments>& points) {
  const auto first = static_cast<std::size_t>(spec.max_trials);
  spec.max_trials += count;
  return config::ForEachTrial(spec, [&](std::size_t i, const config::TrialPoint& point) {
    if (i >= first && config::Validate(point.config, spec.store_d, spec.store_target_d).ok())
      points.push_back(point.assignments);
    return absl::OkStatus();
  });
}

}  // namespace

absl::StatusOr<Addition> LookUpAddition(Core& core, const v1::AddPointsRequest& request) {
  SAE_ASSIGN_OR_RETURN(const std::string name, ParseSweepName(request.parent(), "parent"));
  Addition out;
  SAE_ASSIGN_OR_RETURN(const auto answer, core.FirstAnswer(KeyOf(request), "AddPoints", name));
  out.answered = answer.has_value();
  if (out.answered) return out;
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, name, "parent"));
  out.spec = sweep->spec;
  out.trials = sweep->trials.size();
  return out;
}

absl::Status PreparePoints(const v1::AddPointsRequest& request, std::size_t max_trials,
                           Addition& addition) {
  if (addition.answered) return absl::OkStatus();
  const bool grid = !request.parameters().empty();
  if (grid == (request.draws() != 0)) {
    return absl::InvalidArgumentError("parameters: give either parameters or draws");
  }
  config::SweepSpec spec = addition.spec;
  if (grid) {
    v1::SweepSpec proto = sae::ToProto(spec);
    *proto.mutable_parameters() = request.parameters();
    SAE_ASSIGN_OR_RETURN(spec, sae::FromProto(proto));
    spec.search = "grid";
    spec.max_trials = 0;
    addition.most = max_trials;
  } else {
    if (spec.search == "grid") {
      return absl::InvalidArgumentError(
          "draws: the sweep's search is a grid, which draws nothing; give parameters");
    }
    if (request.draws() < 1 || request.draws() > static_cast<std::int64_t>(max_trials)) {
      return absl::InvalidArgumentError(
          absl::StrCat("draws: ", request.draws(), ", must be 1 to ", max_trials));
    }
    addition.most = static_cast<std::size_t>(request.draws());
    spec.max_trials = static_cast<std::int64_t>(addition.trials) + request.draws();
  }
  const std::size_t limit = grid ? max_trials : static_cast<std::size_t>(spec.max_trials);
  SAE_ASSIGN_OR_RETURN(PreparedSweep prepared, PrepareSweep(spec, limit));
  auto& points = prepared.event.points;
  if (!grid) {
    points.erase(points.begin(), points.begin() + static_cast<std::ptrdiff_t>(
                                                      std::min(addition.trials, points.size())));
    SAE_RETURN_IF_ERROR(DrawMore(spec, request.draws() + kMoreDraws, points));
  }
  addition.points = std::move(points);
  return absl::OkStatus();
}

absl::Status HandleAddPoints(Core& core, const v1::AddPointsRequest& request,
                             const Addition& addition, v1::AddPointsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const std::string name, ParseSweepName(request.parent(), "parent"));
  SAE_ASSIGN_OR_RETURN(const AddedPoints added,
                       core.AddPoints(name, addition.points, addition.most, KeyOf(request)));
  for (const std::string& trial : added.trials) response.add_trials(trial);
  response.set_skipped(added.skipped);
  return absl::OkStatus();
}

absl::StatusOr<std::string> MadeByFork(Core& core, const v1::ForkSweepRequest& request) {
  SAE_ASSIGN_OR_RETURN(const auto made, core.SweepOfRequest(KeyOf(request), true));
  return made.value_or("");
}

absl::Status HandleFork(Core& core, const v1::ForkSweepRequest& request,
                        const PreparedSweep& prepared, v1::Sweep& response) {
  SAE_ASSIGN_OR_RETURN(std::string name, MadeByFork(core, request));
  if (name.empty()) {
    name = prepared.spec.name;
    SAE_RETURN_IF_ERROR(core.CreateSweep(prepared, KeyOf(request)));
  }
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, name, "name"));
  response = SweepToProto(*sweep, core.head(sweep->name));
  return absl::OkStatus();
}

absl::StatusOr<PreparedSweep> PreparePreview(const v1::PreviewSweepRequest& request,
                                             std::size_t max_trials, v1::SweepPlan& response) {
  if (!request.has_spec()) return absl::InvalidArgumentError("spec: is missing");
  if (request.points() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("points: ", request.points(), ", must be >= 0"));
  }
  SAE_ASSIGN_OR_RETURN(const config::SweepSpec spec, sae::FromProto(request.spec()));
  SAE_ASSIGN_OR_RETURN(PreparedSweep prepared, PrepareSweep(spec, max_trials));
  const auto& points = prepared.event.points;
  const int shown = request.points() == 0 ? kDefaultPoints : request.points();
  for (const double tokens : config::RungTokens(spec)) response.add_rungs(tokens);
  response.set_trials(static_cast<std::int64_t>(points.size()));
  for (const TrialAssignments& point : points) {
    config::TrialConfig config = spec.trial;
    for (const auto& [path, value] : point)
      SAE_RETURN_IF_ERROR(config::SetField(config, path, value));
    response.set_slots(std::max(response.slots(), config.ranks));
    response.set_tokens(response.tokens() + config.train.tokens);
    if (response.points_size() < shown) response.add_points(TextOf(point));
  }
  return prepared;
}

absl::Status HandlePreview(Core& core, const PreparedSweep& prepared, v1::SweepPlan& response) {
  const config::SweepSpec& spec = prepared.spec;
  const PointKeys keys(spec.trial);
  std::unordered_set<std::uint64_t> mine;
  for (const auto& point : prepared.event.points) mine.insert(keys.Of(point));
  for (const std::string& name : core.state().sweep_order()) {
    if (response.duplicates_size() >= static_cast<int>(kMostDuplicates)) break;
    const SweepRecord& sweep = *core.state().sweep(name);
    // Of another store, or from a checkpoint: not the same, whatever the configuration.
    const bool other_store = sweep.spec.store_hash != spec.store_hash ||
                             (spec.store_hash.empty() && sweep.spec.store != spec.store);
    if (other_store || !sweep.forked_from.empty()) continue;
    const PointKeys theirs(sweep.spec.trial);
    for (const TrialRecord& trial : sweep.trials) {
      if (response.duplicates_size() >= static_cast<int>(kMostDuplicates)) break;
      if (mine.contains(theirs.Of(trial.assignments)))
        response.add_duplicates(sae::TrialName(name, TrialNameOf(trial.index)));
    }
  }
  response.set_wait(WhyNothingStarts(core, response.slots()));
  return absl::OkStatus();
}

}  // namespace sae::server
