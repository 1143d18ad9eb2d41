#include "server/service/checkpoint_handlers.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"
#include "server/service/convert.h"
#include "server/service/lookup.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

v1::Checkpoint Describe(const SweepRecord& sweep, const JudgedCheckpoint& judged) {
  const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(judged.trial)];
  v1::Checkpoint proto = CheckpointToProto(sweep, trial, judged.record);
  proto.set_reason(judged.why);
  if (sweep.spec.store_d > 0) {
    proto.set_bytes(config::EstimateCheckpointBytes(sweep.Config(trial), sweep.spec.store_d,
                                                    sweep.spec.store_target_d));
  }
  return proto;
}

/// Of "SWEEP/TRIAL/CHECKPOINT" or the whole resource: the trial's name and the checkpoint's.
absl::StatusOr<std::pair<std::string, std::string>> Split(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, '/');
  const bool whole = parts.size() == 8 && parts[6] == "checkpoints";
  if ((parts.size() != 3 && !whole) || parts.back().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("name: \"", name, "\" is not a checkpoint; give SWEEP/TRIAL/CHECKPOINT, or ",
                     "projects/default/sweeps/SWEEP/trials/TRIAL/checkpoints/CHECKPOINT"));
  }
  const std::string checkpoint = parts.back();
  parts.resize(whole ? 6 : 2);
  return std::make_pair(absl::StrJoin(parts, "/"), checkpoint);
}

}  // namespace

absl::Status Handle(Core& core, const v1::ListCheckpointsRequest& request,
                    v1::ListCheckpointsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, request.parent(), "parent"));
  for (const JudgedCheckpoint& judged : core.JudgeCheckpoints(*found.first, found.second))
    *response.add_checkpoints() = Describe(*found.first, judged);
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::ProtectCheckpointRequest& request,
                    v1::Checkpoint& response) {
  SAE_ASSIGN_OR_RETURN(const auto name, Split(request.name()));
  SAE_ASSIGN_OR_RETURN(const auto trial, ParseTrialName(name.first, "name"));
  SAE_RETURN_IF_ERROR(core.ProtectCheckpoint(trial.first, trial.second, name.second,
                                             request.protect(), KeyOf(request)));
  SAE_ASSIGN_OR_RETURN(const FoundTrial found, FindTrial(core, name.first, "name"));
  for (const JudgedCheckpoint& judged : core.JudgeCheckpoints(*found.first, found.second)) {
    if (judged.record.name == name.second) response = Describe(*found.first, judged);
  }
  return absl::OkStatus();
}

absl::Status Handle(Core& core, const v1::CollectCheckpointsRequest& request,
                    v1::CollectCheckpointsResponse& response) {
  SAE_ASSIGN_OR_RETURN(const std::string name, ParseSweepName(request.parent(), "parent"));
  SAE_ASSIGN_OR_RETURN(const auto judged,
                       core.CollectCheckpoints(name, request.dry_run(), KeyOf(request)));
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, name, "parent"));
  for (const JudgedCheckpoint& one : judged)
    *(one.stays ? response.add_kept() : response.add_deleted()) = Describe(*sweep, one);
  return absl::OkStatus();
}

}  // namespace sae::server
