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

/// Names of `sae.architecture`.
const std::vector<std::string>& Architectures();
/// Names of metrics that the trainer emits (see docs/metrics in ARCHITECTURE.md): objective, constraints.
const std::vector<std::string>& Metrics();

struct SaeConfig {
  std::string architecture = "topk";
  std::int64_t latents = 0;                         ///< n
  /// topk, batchtopk, matryoshka: active latents a token (a mean over the batch for the latter two).
  std::int64_t k = 0;
  std::optional<std::int64_t> aux_k;                ///< topk family: AuxK's k; auto = power of two near d / 2; 0 = off
  double aux_alpha = 1.0 / 32;                      ///< topk family: AuxK's weight
  bool multi_topk = false;                          ///< topk: plus 1/8 of the loss of the 4k largest (Gao et al. 3.7)
  double l1_coefficient = 0;                        ///< relu_l1, gated: lambda; with target_l0 where it starts, 0 = calibrated
  double l0_coefficient = 0;                        ///< jumprelu: lambda of its penalty; likewise
  double target_l0 = 0;                             ///< relu_l1, gated, jumprelu: lambda is controlled towards it; 0 = not
  /// relu_l1: l1 (2023) | l1_norm (April 2024: weighted by decoder norms) | lp (p-annealed).
  /// jumprelu: l0 | l0_quadratic (lambda (L0 / target - 1)^2) | tanh. gated: l1. auto = the first.
  std::string penalty = "auto";
  double p_end = 0.2;                               ///< lp: exponent at the end
  double tanh_scale = 4;                            ///< tanh: c
  double pre_act_coefficient = 3e-6;                ///< tanh: lambda_P of ReLU(theta - z)
  double frequency_coefficient = 0;                 ///< jumprelu: lambda_d of latents that fire on over 10% of tokens
  std::optional<double> bandwidth;                  ///< jumprelu: eps; auto = a tenth of the median sd of z (2 for tanh)
  std::optional<double> threshold_init;             ///< jumprelu: theta at the start; auto = quantiles of z
  std::string threshold_parameter = "log";          ///< jumprelu: log | raw: what Adam sees
  std::optional<double> threshold_lr;               ///< jumprelu: of theta alone; auto = 3e-2 (log), 0.3 x bandwidth (raw)
  /// matryoshka: "auto" (n/16, n/8, n/4, n/2, n) or rising widths "128,512,2048"; n is appended.
  std::string prefixes = "auto";
  std::string prefix_weights = "mean";              ///< mean (1/G) | sum (1 each) | mean_with_bias (bias-only term, 1/(G+1))
  std::string pre_bias = "auto";                    ///< on | off: subtract b_dec before encoding
  std::string decoder = "auto";                     ///< unit | unit_before (OpenAI's order) | free | on_the_fly
  std::string input_scale = "rms";                  ///< rms (E|x|^2 = 1) | mean_norm (E|x| = sqrt d) | layer_norm | none
  std::string loss = "auto";                        ///< sum | mean | openai | fvu: how squared errors are reduced
  std::string resample = "off";                     ///< off | on: dead latents of relu_l1, gated at 12.5, 25, 37.5, 50%
  double resample_exponent = 4;                     ///< rows drawn with probability ~ |error|^this (Bricken: 4)
  std::optional<std::int64_t> dead_after_tokens;    ///< auto = min(1e7, tokens / 8)
  bool transcoder = false;                          ///< predict the store's targets instead of its activations
  bool skip = false;                                ///< transcoder: plus W_skip x
};

struct TrainConfig {
  std::string preset = "none";                      ///< none | openai: what `auto` means for decoder, loss, epsilon; its encoder scale
  double tokens = 0;                                ///< length of the run, in tokens
  std::int64_t batch = 2048;                        ///< global batch, in tokens
  std::optional<double> lr;                         ///< auto = 2e-4 / sqrt(n / 16384)
  std::optional<double> beta1;                      ///< auto = 0.9; 0 for gated and jumprelu
  double beta2 = 0.999;
  std::optional<double> epsilon;                    ///< auto = 1e-8; 6.25e-10 with preset openai
  std::string lr_warmup = "linear";                 ///< linear (0 to 1) | cosine (0.1 to 1)
  std::optional<std::int64_t> lr_warmup_steps;      ///< auto = min(1000, 5% of the steps)
  double lr_decay_fraction = 0.2;                   ///< linear decay to 0 over this last share
  std::optional<std::int64_t> sparsity_warmup_steps;  ///< lambda rises from 0; auto = min(5000, 10% of the steps)
  double clip = 0;                                  ///< largest global gradient norm; 0 = off
  double ema = 0;                                   ///< mu of the mean of parameters that is evaluated and exported; 0 = off
  std::string rows = "dense";                       ///< dense | lazy (beta1 = 0) | deferred (decoder): which rows a step updates
  /// float32 | certified: screened in bf16, exact by a margin | bf16 (devices only): of bf16 products.
  std::string selection = "float32";
  std::int64_t seed = 0;                            ///< initialisation
  std::int64_t data_seed = 0;                       ///< order of data; belongs to the sweep
  std::optional<double> eval_every_tokens;          ///< auto = tokens / 10
  double checkpoint_every_seconds = 60;
  std::int64_t log_every_steps = 10;
  std::string moments = "f32";                      ///< f32 | bf16 | int8: how Adam's moments of the two matrices are kept
  std::string reduction = "fast";                   ///< fast | fixed: the same bits at every number of ranks that divides 16
  std::optional<std::int64_t> replicas;             ///< D: parts of a batch; ranks = D x latent shards; auto: mesh.h
  std::string decoder_layout = "latents";           ///< latents | columns: how ranks share the decoder
};

/// What a sweep varies; the proto message TrialSpec has the same fields.
struct TrialConfig {
  std::int64_t ranks = 1;                           ///< replicas x latent shards
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
  std::string device = "cpu";                       ///< cpu | cuda (ranks dealt to GPUs) | cuda:N
  std::int64_t threads = 1;                         ///< of each rank
  bool lease = false;                               ///< obey the file `lease` in `directory`
  double watchdog_seconds = 300;                    ///< a rank that makes no progress this long aborts
  std::string store_hash;                           ///< expected hash of the store's manifest; "" = any
  std::int64_t keep_checkpoints = 2;                ///< the newest, older ones are removed; 0 = all stay
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

/// All problems that can be seen without the store. `d` > 0 adds those that need the store: its width
/// and the width of its targets (0 = it has none). Accepts what Resolve returns for a valid config.
[[nodiscard]] absl::Status Validate(const TrialConfig& config, std::int64_t d = 0, std::int64_t target_d = 0);

/// sae.prefixes: "auto" (n/16, n/8, n/4, n/2, n; those below 1 left out) or rising widths as
/// "128,512,2048"; n is appended where it is not the last. m_1 < ... < m_G = latents.
[[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> ParsePrefixes(const std::string& text, std::int64_t latents);

/// `config` with every auto field set, for a store of width d. What only data can tell stays auto:
/// sae.threshold_init, sae.bandwidth (but for tanh) and sae.threshold_lr of raw thresholds.
TrialConfig Resolve(TrialConfig config, std::int64_t d);
std::int64_t TotalSteps(const TrialConfig& config);

/// Bytes one rank needs at most, by part. `optimizer`: Adam's moments, the mean of parameters (train.ema),
/// counters of latents and of lazy rows. `codes`: sparse codes with their gradients. `buffers`: rows of a
/// batch, Matryoshka's errors, blocks of a fixed reduction, the dense phase of relu_l1 and gated, the screen of
/// `certified`. `data`: what is read ahead of the store, and the sample of the start. Programs and
/// libraries come on top (about 120 MiB).
struct MemoryEstimate {
  std::int64_t parameters = 0;
  std::int64_t optimizer = 0;
  std::int64_t codes = 0;
  std::int64_t buffers = 0;
  std::int64_t data = 0;
  std::int64_t gradients = 0;  ///< of `buffers`: gradient rows that replicas reduce by owner
  std::int64_t total() const { return parameters + optimizer + codes + buffers + data; }
};
/// `target_d`: of the store; it counts for transcoders only.
MemoryEstimate EstimateMemory(const TrialConfig& config, std::int64_t d, std::int64_t target_d = 0);
/// Bytes on disk of one checkpoint of this trial.
std::int64_t EstimateCheckpointBytes(const TrialConfig& config, std::int64_t d, std::int64_t target_d = 0);

}  // namespace sae::config
