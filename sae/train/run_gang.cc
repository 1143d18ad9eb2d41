#include "sae/train/run_gang.h"

#include <optional>
#include <set>
#include <string>
#include <utility>

#include "sae/checkpoint/agree.h"
#include "sae/config/mesh.h"
#include "sae/data/store_source.h"
#include "sae/train/gang.h"
#include "sae/train/trial_setup.h"

namespace sae::train {
namespace {

std::string NameOf(const config::RunConfig& c, std::size_t at) {
  return c.run.trial.empty() ? absl::StrCat("trial ", at + 1, " (", c.run.directory, ")")
                             : absl::StrCat("trial ", c.run.trial);
}

std::int64_t ReplicasOf(const config::RunConfig& c) {
  config::TrialConfig trial = c.trial;
  if (c.run.device != "cpu") config::ResolveReplicasOnDevice(&trial);
  return config::Replicas(config::Resolve(trial, 1));
}

/// What all trials of a gang have in common, as text.
std::vector<std::pair<const char*, std::string>> Shared(const config::RunConfig& c) {
  return {{"store", c.store},
          {"run.store_hash", c.run.store_hash},
          {"trial.ranks", absl::StrCat(c.trial.ranks)},
          {"trial.train.data_seed", absl::StrCat(c.trial.train.data_seed)},
          {"trial.train.batch", absl::StrCat(c.trial.train.batch)},
          {"trial.sae.transcoder", c.trial.sae.transcoder ? "true" : "false"},
          {"run.threads", absl::StrCat(c.run.threads)},
          {"run.device", c.run.device},
          // On each rank they take the same part of a batch.
          {"replicas", absl::StrCat(ReplicasOf(c))}};
}

}  // namespace

absl::Status CheckGang(std::span<const config::RunConfig> configs) {
  if (configs.empty()) return absl::InvalidArgumentError("a gang of no trials: name a run config");
  const auto first = Shared(configs[0]);
  std::string problems;
  const auto add = [&](const std::string& problem) {
    absl::StrAppend(&problems, problems.empty() ? "" : "; ", problem);
  };
  std::set<std::string> directories, checkpoints;
  for (std::size_t at = 0; at < configs.size(); ++at) {
    const config::RunConfig& c = configs[at];
    const auto own = Shared(c);
    for (std::size_t f = 0; f < own.size(); ++f) {
      if (own[f].second == first[f].second) continue;
      add(absl::StrCat(NameOf(c, at), ": ", own[f].first, " is \"", own[f].second, "\", that of ",
                       NameOf(configs[0], 0), " \"", first[f].second, "\""));
    }
    if (!directories.insert(c.run.directory).second)
      add(absl::StrCat(NameOf(c, at), ": run.directory \"", c.run.directory, "\" is another trial's"));
    if (!checkpoints.insert(CheckpointsPath(c)).second)
      add(absl::StrCat(NameOf(c, at), ": checkpoints in ", CheckpointsPath(c), " are another trial's"));
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("these trials cannot share a stream: ", problems,
                                                 ": run them apart"));
}

std::vector<absl::StatusOr<Outcome>> RunGang(
    std::span<const GangTrial> trials, const RunTrialParts& parts,
    const std::function<void(std::size_t, const absl::StatusOr<Outcome>&)>& ended) {
  std::vector<absl::StatusOr<Outcome>> outcomes(trials.size(), absl::UnknownError("has not run"));
  const auto fail_all = [&](const absl::Status& status) {
    for (std::size_t at = 0; at < trials.size(); ++at) ended(at, outcomes[at] = status);
    return outcomes;
  };
  std::vector<config::RunConfig> configs;
  for (const GangTrial& trial : trials) configs.push_back(trial.config);
  if (const absl::Status status = CheckGang(configs); !status.ok()) return fail_all(status);
  absl::StatusOr<StorePointer> opened = OpenStore(configs[0]);
  if (const absl::Status status = checkpoint::Agree(*parts.communicator, opened.status()); !status.ok())
    return fail_all(status);
  const StorePointer store = *std::move(opened);
  parts.progress();
  const config::TrialConfig& first = configs[0].trial;
  ThreadPool pool(static_cast<int>(configs[0].run.threads));
  data::StoreSource source(store, static_cast<std::uint64_t>(first.train.data_seed), {}, RowKindOf(first));
  Gang::Options options;
  options.trials = static_cast<int>(trials.size());
  options.pool = &pool;
  options.source = &source;
  options.read_heldout = [&store, kind = RowKindOf(first)](std::int64_t row, std::span<float> rows) {
    return store->ReadRows(data::Split::kHeldout, row, rows, kind);
  };
  Gang gang(std::move(options));
  gang.Run([&](int number) {
    const auto at = static_cast<std::size_t>(number);
    RunTrialParts own = parts;
    own.events = trials[at].events;
    own.stop_requested = trials[at].stop_requested;
    TrialStream stream;
    stream.source = &gang.source(number);
    stream.gang = &gang.engines();
    stream.read_heldout = [&gang, number](std::int64_t row, std::span<float> rows) {
      return gang.ReadHeldout(number, row, rows);
    };
    stream.label = NameOf(configs[at], at) + ": ";
    outcomes[at] = TrainOnStream(configs[at], store, own, pool, stream);
    ended(at, outcomes[at]);
  });
  return outcomes;
}

}  // namespace sae::train
