#include "sae/train/run_trial.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "sae/base/parallel.h"
#include "sae/checkpoint/agree.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/config/mesh.h"
#include "sae/data/prefetch_source.h"
#include "sae/data/store_reader.h"
#include "sae/data/store_source.h"
#include "sae/train/device/device_engine.h"
#include "sae/train/engine/engine.h"
#include "sae/train/trial_setup.h"

namespace sae::train {
namespace fs = std::filesystem;

absl::StatusOr<StorePointer> OpenStore(const config::RunConfig& config) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<data::ActivationStore> store, data::ActivationStore::Open(config.store));
  const std::string& wanted = config.run.store_hash;
  if (!wanted.empty() && wanted != store->manifest_hash()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "store ", config.store, " has manifest hash ", store->manifest_hash(), ", the run was submitted for ", wanted,
        ": the store was changed or replaced; submit the sweep again"));
  }
  if (store->rows(data::Split::kTraining) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("store ", config.store, " has no training rows"));
  }
  return StorePointer(std::move(store));
}

data::RowKind RowKindOf(const config::TrialConfig& trial) {
  return trial.sae.transcoder ? data::RowKind::kWithTargets : data::RowKind::kActivations;
}

namespace {

absl::Status PrepareDisk(Env& env, const std::string& checkpoints, const config::TrialConfig& trial,
                         const data::ActivationStore& store) {
  SAE_RETURN_IF_ERROR(RequireFreeBytes(env, checkpoints, CheckpointDiskBytes(trial, store.d(), store.target_d()),
                                       "room for three checkpoints of this trial"));
  return checkpoint::MakeDirectory(env, checkpoints);
}

std::map<std::string, std::string> SourceOf(const data::StoreManifest& manifest) {
  const data::StoreOrigin& s = manifest.source;
  std::map<std::string, std::string> out;
  for (const auto& [name, value] : {std::pair<const char*, std::string>{"kind", s.kind},
                                    {"model", s.model},
                                    {"model_hash", s.model_hash},
                                    {"hook", s.hook},
                                    {"target_hook", s.target_hook},
                                    {"packing", s.packing},
                                    {"context", s.context > 0 ? absl::StrCat(s.context) : ""}}) {
    if (!value.empty()) out[name] = value;
  }
  return out;
}

TrainerOptions OptionsFor(const config::RunConfig& config, const config::TrialConfig& trial, const StorePointer& store) {
  TrainerOptions o;
  o.config = trial;
  o.checkpoints = CheckpointsPath(config);
  o.writer = absl::StrCat("a", config.run.attempt);
  o.keep_checkpoints = static_cast<int>(config.run.keep_checkpoints);
  o.store = fs::absolute(config.store).lexically_normal().string();
  o.store_hash = store->manifest_hash();
  o.source = SourceOf(store->manifest());
  o.instruction_set = InstructionSet();
  o.sample_rows = store->rows(data::Split::kTraining);
  o.heldout_rows = store->rows(data::Split::kHeldout);
  o.d = store->d();
  o.read_heldout = [store, kind = RowKindOf(trial)](std::int64_t first, std::span<float> rows) {
    return store->ReadRows(data::Split::kHeldout, first, rows, kind);
  };
  const auto& mean = trial.sae.transcoder ? store->manifest().target_mean : store->manifest().mean;
  o.mean.assign(mean.begin(), mean.end());
  return o;
}

absl::StatusOr<std::unique_ptr<Engine<float>>> MakeEngine(const config::RunConfig& config,
                                                          const config::TrialConfig& trial,
                                                          const data::ActivationStore& store,
                                                          const RunTrialParts& parts, ThreadPool& pool) {
  const std::int64_t d = store.d(), d_out = trial.sae.transcoder ? store.target_d() : store.d();
  if (config.run.device == "cpu") {
    if (trial.train.selection == "bf16") {
      return absl::InvalidArgumentError(
          "train.selection: bf16 needs a GPU (run.device: cuda): on CPUs certified is as fast, and exact");
    }
    return CreateEngine<float>(trial, d, d_out, *parts.communicator, pool);
  }
  if (parts.device == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        "run.device: ", config.run.device, ": this trainer was built without it: configure with -DSAE_WITH_CUDA=ON"));
  }
  return DeviceEngine::Create(trial, d, d_out, *parts.communicator, pool, *parts.device);
}

}  // namespace

std::string CheckpointsPath(const config::RunConfig& config) {
  return (fs::absolute(config.run.directory) / config.run.checkpoints).lexically_normal().string();
}

std::int64_t CheckpointDiskBytes(const config::TrialConfig& trial, std::int64_t d, std::int64_t target_d) {
  return 3 * config::EstimateCheckpointBytes(trial, d, target_d);
}

std::string InstructionSet() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    return "avx512";
  }
  return __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#else
  return "generic";
#endif
}

absl::StatusOr<Outcome> RunTrial(const config::RunConfig& config, const RunTrialParts& parts) {
  absl::StatusOr<StorePointer> opened = OpenStore(config);
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts.communicator, opened.status()));
  const StorePointer store = *std::move(opened);
  parts.progress();
  ThreadPool pool(static_cast<int>(config.run.threads));
  data::StoreSource source(store, static_cast<std::uint64_t>(config.trial.train.data_seed), {}, RowKindOf(config.trial));
  data::PrefetchSource ahead(source);
  TrialStream stream;
  stream.source = &ahead;
  return TrainOnStream(config, store, parts, pool, stream);
}

absl::StatusOr<Outcome> TrainOnStream(const config::RunConfig& config, const StorePointer& store,
                                      const RunTrialParts& parts, ThreadPool& pool, const TrialStream& stream) {
  comm::Communicator& communicator = *parts.communicator;
  SAE_RETURN_IF_ERROR(checkpoint::Agree(
      communicator, config::Validate(config.trial, store->d(), store->target_d())));
  config::TrialConfig given = config.trial;
  if (config.run.device != "cpu") config::ResolveReplicasOnDevice(&given);
  const config::TrialConfig trial = config::Resolve(given, store->d());
  absl::Status disk;
  if (communicator.rank() == 0) disk = PrepareDisk(*parts.env, CheckpointsPath(config), trial, *store);
  SAE_RETURN_IF_ERROR(checkpoint::Agree(communicator, disk));
  absl::StatusOr<std::unique_ptr<Engine<float>>> engine = MakeEngine(config, trial, *store, parts, pool);
  SAE_RETURN_IF_ERROR(checkpoint::Agree(communicator, engine.status()));
  (*engine)->JoinGang(stream.gang);
  TrainerParts trainer_parts;
  trainer_parts.env = parts.env;
  trainer_parts.clock = parts.clock;
  trainer_parts.communicator = &communicator;
  trainer_parts.engine = engine->get();
  trainer_parts.source = stream.source;
  trainer_parts.events = parts.events;
  trainer_parts.stop_requested = parts.stop_requested;
  trainer_parts.progress = parts.progress;
  TrainerOptions options = OptionsFor(config, trial, store);
  if (stream.read_heldout) options.read_heldout = stream.read_heldout;
  options.label = stream.label;
  return Trainer(std::move(trainer_parts), std::move(options)).Run();
}

}  // namespace sae::train
