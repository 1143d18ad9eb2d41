#include "server/core/state_checkpoints.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "server/core/checkpoint_policy.h"
#include "server/core/state_lifecycle.h"

namespace sae::server {
namespace {

/// Its files are in TRIAL/checkpoints alone, and nobody wants them but as the newest.
bool IsPlain(const CheckpointRecord& c) {
  return !c.is_protected && !c.kept && !c.secured && !c.deleting;
}

/// What its trainer has removed by now.
void Prune(std::size_t keep, TrialRecord& trial) {
  std::size_t newer = 0;
  for (std::size_t i = trial.checkpoints.size(); i-- > 0;) {
    const CheckpointRecord& c = trial.checkpoints[i];
    if (IsSuperseded(trial, c)) continue;
    if (newer++ < keep || !IsPlain(c)) continue;
    trial.checkpoints.erase(trial.checkpoints.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Save(const LogEvent& event, const CheckpointSaved& body,
          const config::CheckpointPolicy& policy, TrialRecord& trial) {
  CheckpointRecord record;
  record.attempt = body.attempt;
  record.name = body.name;
  record.step = body.step;
  record.tokens = body.tokens;
  record.time = event.time;
  // Saved again by a later attempt: who wants it still does, and it is to be secured anew. Of one
  // that was to go, workers were told to remove no more than what the earlier attempt left.
  for (const CheckpointRecord& c : trial.checkpoints) {
    if (c.name != body.name) continue;
    record.is_protected = c.is_protected;
    record.kept = c.kept;
    record.secured = c.secured && !c.is_protected && !c.kept;
    record.deleting = c.deleting && c.attempt == body.attempt;
    if (c.attempt == body.attempt) record.value = c.value;
  }
  std::erase_if(trial.checkpoints, [&](const CheckpointRecord& c) { return c.name == body.name; });
  const auto later = std::find_if(trial.checkpoints.begin(), trial.checkpoints.end(),
                                  [&](const CheckpointRecord& c) { return c.step > body.step; });
  trial.checkpoints.insert(later, std::move(record));
  if (!CoordinatorDeletes(policy)) Prune(static_cast<std::size_t>(policy.keep_latest), trial);
}

void Mark(const CheckpointMarked& body, TrialRecord& trial) {
  for (CheckpointRecord& c : trial.checkpoints) {
    if (c.name != body.name) continue;
    if (body.is_protected) c.is_protected = *body.is_protected;
    if (body.kept) c.kept = *body.kept;
    if (body.secured) c.secured = *body.secured;
    if (body.deleting) c.deleting = *body.deleting;
    if (body.value) c.value = body.value;
  }
}

}  // namespace

std::optional<absl::Status> ApplyCheckpoint(const LogEvent& event,
                                            const config::CheckpointPolicy& policy,
                                            TrialRecord& trial) {
  if (const auto* saved = std::get_if<CheckpointSaved>(&event.body)) {
    // Also of an older attempt, whose last lines are reported by the worker that goes on with the
    // trial.
    if (trial.attempt(saved->attempt) == nullptr) return EventBug(event, "no such attempt");
    Save(event, *saved, policy, trial);
    return absl::OkStatus();
  }
  if (const auto* marked = std::get_if<CheckpointMarked>(&event.body)) {
    Mark(*marked, trial);
    return absl::OkStatus();
  }
  if (const auto* deleted = std::get_if<CheckpointsDeleted>(&event.body)) {
    std::erase_if(trial.checkpoints, [&](const CheckpointRecord& c) {
      return std::find(deleted->names.begin(), deleted->names.end(), c.name) !=
             deleted->names.end();
    });
    return absl::OkStatus();
  }
  return std::nullopt;
}

void RewindCheckpoints(std::int64_t step, TrialRecord& trial) {
  std::erase_if(trial.checkpoints,
                [&](const CheckpointRecord& c) { return c.step > step && IsPlain(c); });
}

std::string DebugString(const CheckpointRecord& c) {
  std::string out = absl::StrCat("\n  checkpoint ", c.name, " ", c.attempt, " ", c.step, " ",
                                 c.tokens, " ", absl::FormatTime(c.time, absl::UTCTimeZone()),
                                 c.is_protected ? " protected" : "", c.kept ? " kept" : "",
                                 c.secured ? " secured" : "", c.deleting ? " deleting" : "");
  if (c.value)
    absl::StrAppend(&out, " value=", c.value->value, c.value->feasible ? "" : " infeasible", "@",
                    c.value->step);
  return out;
}

}  // namespace sae::server
