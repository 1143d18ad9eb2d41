#pragma once
// The run config: what one trial is (TrialConfig, which sweeps vary and the proto TrialSpec mirrors) and
// where one attempt of it runs (RunConfig, the file run.json that a worker writes and saeloom-trainer
// reads). Plain values; not thread-safe. Errors: INVALID_ARGUMENT that lists every problem at once, each
// with its path, value and remedy.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/fields.h"

namespace sae::config {

/// Names of `sae.architecture`. Those not yet built are refused by Validate with UNIMPLEMENTED's words.
const std::vector<std::string>& Architectures();
/// Names of metrics that the trainer emits (see docs/metrics in ARCHITECTURE.md): objective, constraints.
const std::vector<std::string>& Metrics();

struct SaeConfig {
  std::string architecture = "topk";
  std::int64_t latents = 0;                         ///< n
  std::int64_t k = 0;                               ///< topk: active latents a token
  std::optional<std::int64_t> aux_k;                ///< topk: AuxK's k; auto = power of two near d / 2; 0 = off
  double aux_alpha = 1.0 / 32;                      ///< topk: AuxK's weight
  double l1_coefficient = 0;                        ///< relu_l1: lambda, for data scaled to E|x|^2 = 1
  double target_l0 = 0;                             ///< 0 = no control
  std::optional<std::int64_t> dead_after_tokens;    ///< auto = min(1e7, tokens / 8)
  bool transcoder = false;
  bool skip = false;
};

struct TrainConfig {
  double tokens = 0;                                ///< length of the run, in tokens
  std::int64_t batch = 2048;                        ///< global batch, in tokens
  std::optional<double> lr;                         ///< auto = 2e-4 / sqrt(n / 16384)
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  std::optional<std::int64_t> lr_warmup_steps;      ///< auto = min(1000, 5% of the steps)
  double lr_decay_fraction = 0.2;                   ///< linear decay to 0 over this last share
  std::optional<std::int64_t> sparsity_warmup_steps;  ///< relu_l1; auto = min(5000, 10% of the steps)
  std::int64_t seed = 0;                            ///< initialisation
  std::int64_t data_seed = 0;                       ///< order of data; belongs to the sweep
  std::optional<double> eval_every_tokens;          ///< auto = tokens / 10
  double checkpoint_every_seconds = 60;
  std::int64_t log_every_steps = 10;
  std::string reduction = "fast";                   ///< fast | fixed
};

/// What a sweep varies; the proto message TrialSpec has the same fields.
struct TrialConfig {
  std::int64_t ranks = 1;                           ///< latent shards
  SaeConfig sae;
  TrainConfig train;
};

/// Where and as what an attempt runs; set by the worker, or by hand. All optional but `directory`.
struct PlacementConfig {
  std::string directory = ".";                      ///< of the attempt: events.jsonl, rank-R.log, lease
  std::string checkpoints = "checkpoints";          ///< folder of the trial's checkpoints; relative to `directory`
  std::string sweep;
  std::string trial;
  std::int64_t attempt = 1;
  std::int64_t threads = 1;                         ///< of each rank
  bool lease = false;                               ///< obey the file `lease` in `directory`
  double watchdog_seconds = 300;                    ///< a rank that makes no progress this long aborts
  std::string store_hash;                           ///< expected hash of the store's manifest; "" = any
};

/// run.json: {"store": .., "trial": {"ranks", "sae": {..}, "train": {..}}, "run": {..}}.
struct RunConfig {
  std::string store;                                ///< folder of an activation store
  TrialConfig trial;
  PlacementConfig run;
};

/// Every field with its path: "ranks", "sae.k", "train.lr", ...; pointers into `config`.
std::vector<Field> Fields(TrialConfig& config);
/// "store", "trial.ranks", "trial.sae.k", ..., "run.directory", ...
std::vector<Field> Fields(RunConfig& config);

/// Sets one field from JSON text (`"topk"`, `32`, `5e5`, `"auto"`, `true`). Unknown paths name the nearest
/// known one; a wrong type names path, value and the type wanted. Integers may be written 5e5 or as strings
/// of digits (proto3 JSON does so).
[[nodiscard]] absl::Status SetField(TrialConfig& config, const std::string& path, const std::string& json_value);

/// Parses {"ranks":..,"sae":{..},"train":{..}}; unknown keys are errors.
[[nodiscard]] absl::StatusOr<TrialConfig> ParseTrialConfig(const std::string& json);
[[nodiscard]] absl::StatusOr<RunConfig> ParseRunConfig(const std::string& json);
/// All fields; an auto field is written as "auto". Ends without a newline.
std::string ToJson(const TrialConfig& config);
std::string ToJson(const RunConfig& config);

/// All problems that can be seen without the store. `d` > 0 adds those that need the width.
[[nodiscard]] absl::Status Validate(const TrialConfig& config, std::int64_t d = 0);

/// `config` with every auto field set, for a store of width d.
TrialConfig Resolve(TrialConfig config, std::int64_t d);
std::int64_t TotalSteps(const TrialConfig& config);

/// Bytes one rank needs, by part. Float32 engine: parameters, Adam moments, codes, batch buffers.
struct MemoryEstimate {
  std::int64_t parameters = 0;
  std::int64_t optimizer = 0;
  std::int64_t codes = 0;
  std::int64_t buffers = 0;
  std::int64_t total() const { return parameters + optimizer + codes + buffers; }
};
MemoryEstimate EstimateMemory(const TrialConfig& config, std::int64_t d);
/// Bytes on disk of one checkpoint of this trial.
std::int64_t EstimateCheckpointBytes(const TrialConfig& config, std::int64_t d);

}  // namespace sae::config
