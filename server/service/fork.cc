#include "server/service/fork.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "proto/convert/error_reason.h"
#include "proto/convert/sweep_convert.h"
#include "server/service/lookup.h"

namespace sae::server {
namespace {

/// What decides which tensors and numbers a checkpoint holds, and their shapes.
const std::set<std::string>& Fixed() {
  static const std::set<std::string> fixed = {
      "sae.architecture",        "sae.latents",  "sae.transcoder", "sae.skip", "sae.penalty",
      "sae.threshold_parameter", "train.moments"};
  return fixed;
}
/// Only whether they are 0 counts.
bool FixedWhetherZero(const std::string& path) {
  return path == "sae.target_l0" || path == "train.ema";
}

std::string Text(const config::FieldPointer& pointer) {
  return std::visit(
      [](const auto* p) -> std::string {
        using T = std::decay_t<decltype(*p)>;
        if constexpr (std::is_same_v<T, bool>) {
          return *p ? "true" : "false";
        } else if constexpr (std::is_same_v<T, double>) {
          return absl::StrFormat("%.17g", *p);
        } else if constexpr (std::is_same_v<T, std::optional<double>>) {
          return *p ? absl::StrFormat("%.17g", **p) : "auto";
        } else if constexpr (std::is_same_v<T, std::optional<std::int64_t>>) {
          return *p ? absl::StrCat(**p) : "auto";
        } else {
          return absl::StrCat(*p);
        }
      },
      pointer);
}

/// Problems of one point, beyond those of any sweep.
void CheckPoint(const ForkSource& source, const config::SweepSpec& spec,
                const TrialAssignments& point, std::set<std::string>& problems) {
  config::TrialConfig raw = spec.trial;
  for (const auto& [path, value] : point) config::SetField(raw, path, value).IgnoreError();
  config::TrialConfig was = config::Resolve(source.config, spec.store_d);
  config::TrialConfig is = config::Resolve(raw, spec.store_d);
  const auto where = [&](const std::string& path) {
    const bool varied =
        std::any_of(point.begin(), point.end(), [&](const auto& a) { return a.first == path; });
    return absl::StrCat(varied ? "parameters." : "trial.", path);
  };
  const std::vector<config::Field> before = config::Fields(was);
  const std::vector<config::Field> now = config::Fields(is);
  for (std::size_t i = 0; i < now.size(); ++i) {
    const std::string& path = now[i].path;
    std::string a = Text(before[i].pointer), b = Text(now[i].pointer);
    bool differs = Fixed().contains(path) && a != b;
    if (FixedWhetherZero(path)) differs = (a == "0") != (b == "0");
    if (!differs) continue;
    problems.insert(absl::StrCat(where(path), ": ", b, ", the checkpoint has ", a,
                                 ", which a fork cannot change"));
  }
  const std::int64_t steps = config::TotalSteps(is);
  if (steps <= source.checkpoint.step) {
    problems.insert(absl::StrCat(where("train.tokens"), ": ", is.train.tokens,
                                 " tokens end at step ", steps, ", the checkpoint is at step ",
                                 source.checkpoint.step,
                                 ": give more, or fork from an earlier checkpoint"));
  }
}

/// The source's trial alone.
config::SweepSpec SpecOf(const ForkSource& source, double tokens) {
  config::SweepSpec spec = source.spec;
  spec.trial = source.config;
  if (tokens > 0) spec.trial.train.tokens = tokens;
  spec.parameters.clear();
  spec.search = "grid";
  spec.max_trials = 0;
  spec.asha = {};
  spec.median_stop = {};
  return spec;
}

}  // namespace

absl::StatusOr<ForkSource> LookUpFork(const Core& core, const std::string& source) {
  std::vector<std::string> parts = absl::StrSplit(source, '/');
  std::string wanted;
  if (parts.size() == 3 || (parts.size() == 8 && parts[6] == "checkpoints")) {
    wanted = parts.back();
    parts.resize(parts.size() == 3 ? 2 : 6);
  }
  SAE_ASSIGN_OR_RETURN(const FoundTrial found,
                       FindTrial(core, absl::StrJoin(parts, "/"), "source"));
  const auto& [sweep, trial] = found;
  ForkSource out{sweep->name, TrialNameOf(trial->index), {}, "",
                 sweep->spec, sweep->Config(*trial)};
  std::vector<std::string> names;
  const CheckpointRecord* checkpoint = nullptr;
  for (const CheckpointRecord& c : trial->checkpoints) {
    if (c.deleting) continue;
    names.push_back(c.name);
    if (wanted.empty() || c.name == wanted) checkpoint = &c;
  }
  if (names.empty()) {
    return WithReason(absl::FailedPreconditionError(absl::StrCat(
                          "source: trial ", out.trial, " of sweep \"", out.sweep,
                          "\" has no checkpoint yet; wait for one, or stop it: it saves one")),
                      "NO_CHECKPOINT");
  }
  if (checkpoint == nullptr) {
    return absl::NotFoundError(absl::StrCat("source: no checkpoint \"", wanted, "\" of trial ",
                                            out.trial, " of sweep \"", out.sweep, "\"; it has ",
                                            absl::StrJoin(names, ", ")));
  }
  out.checkpoint = *checkpoint;
  const AttemptRecord* attempt = trial->attempt(checkpoint->attempt);
  if (attempt != nullptr) out.runs_id = attempt->runs_id;
  return out;
}

absl::StatusOr<PreparedSweep> PrepareFork(const saeloom::v1::ForkSweepRequest& request,
                                          const ForkSource& source, std::size_t max_trials) {
  config::SweepSpec spec;
  if (!std::isfinite(request.tokens()) || request.tokens() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("tokens: ", request.tokens(), ", must be >= 0"));
  }
  if (request.has_spec()) {
    if (request.tokens() > 0)
      return absl::InvalidArgumentError("tokens: only without a spec; write train.tokens there");
    SAE_ASSIGN_OR_RETURN(spec, sae::FromProto(request.spec()));
  } else {
    if (request.name().empty())
      return absl::InvalidArgumentError("name: is empty; name the new sweep");
    spec = SpecOf(source, request.tokens());
  }
  if (!request.name().empty()) spec.name = request.name();
  SAE_ASSIGN_OR_RETURN(PreparedSweep prepared, PrepareSweep(spec, max_trials));
  std::set<std::string> problems;
  if (spec.store_hash != source.spec.store_hash ||
      (spec.store_hash.empty() && spec.store != source.spec.store)) {
    problems.insert(absl::StrCat("store: ", spec.store, ", the checkpoint was trained on ",
                                 source.spec.store, " and goes on only there"));
  }
  constexpr std::size_t kShown = 20;
  for (const TrialAssignments& point : prepared.event.points) {
    if (problems.size() >= kShown) break;
    CheckPoint(source, spec, point, problems);
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
  prepared.event.forked_from =
      absl::StrCat(source.sweep, "/", source.trial, "/", source.checkpoint.name);
  prepared.event.fork_runs_id = source.runs_id;
  return prepared;
}

}  // namespace sae::server
