#pragma once
// One training step, one evaluation, of one latent-sharded SAE on this rank. All ranks of the trial
// call the same functions with the same rows. T = float in production, double in the reference
// tests. One thread calls; the engine uses the pool it is given. Allocates in Create, not in Step.
// Errors of the communicator pass through; a non-finite loss is FAILED_PRECONDITION naming step and
// value. Sources: spec algorithms.md sections 0-4, 7.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"
#include "sae/config/run_config.h"
#include "sae/model/state.h"

namespace sae::train {

class EngineGang;

template <class T>
class Engine {
 public:
  virtual ~Engine() = default;

  /// Values of one row that the functions below take: d, or d + d_out for a transcoder ([x | y]).
  virtual std::int64_t row_width() const = 0;

  /// Before the first step of a fresh run: input scale S, b_dec = geometric median of x (transcoder:
  /// mean of y), initial directions, loss constants, thresholds, from `sample` (rows x row_width,
  /// raw units; the same on every rank). Not after a load.
  [[nodiscard]] virtual absl::Status Initialise(std::span<const float> sample) = 0;

  /// One optimizer step on the global batch, rows of row_width() in raw units: `rows` is all of it,
  /// or only what this rank's replica takes, the r-th of D equal parts. `rows` are free again after
  /// it. An engine may still work on the step then: what goes wrong in it the next call returns.
  [[nodiscard]] virtual absl::Status Step(std::span<const float> rows) = 0;

  /// The last step has ended, well or with the error that is returned. Before state().
  [[nodiscard]] virtual absl::Status Settle() { return absl::OkStatus(); }

  /// Of the last step, for a metrics event: "train.loss", "train.fvu", "train.l0",
  /// "train.dead_fraction",
  /// ..., "lr", "ms.encode", "ms.select", "ms.exchange", "ms.decode", "ms.backward", "ms.update".
  /// The same on every rank but for ms.*. Metrics that need reductions are computed by the call.
  [[nodiscard]] virtual absl::StatusOr<std::map<std::string, double>> LastMetrics() = 0;

  /// Milliseconds of the last step that this rank spent in collectives, waiting for others included;
  /// nullopt from an engine that does not measure it (then on every rank, at every step).
  virtual std::optional<double> LastExchangeMs() const { return std::nullopt; }

  /// Held-out evaluation: any number of batches (each at most the training batch), then the values
  /// "heldout.loss|fvu|explained_variance|l0|dead_fraction|gamma|cosine". Parameters do not change.
  /// `mean` (d_out values, raw units) is the store's mean of training rows (transcoder: targets):
  /// gamma is taken on centred data.
  virtual void BeginEvaluation(std::span<const float> mean) = 0;
  [[nodiscard]] virtual absl::Status EvaluateBatch(std::span<const float> rows) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::map<std::string, double>> FinishEvaluation() = 0;

  /// Selected latents of the last step, for tests: per token the global ids of its nonzero codes on
  /// all ranks, ascending, gathered.
  [[nodiscard]] virtual absl::StatusOr<std::vector<std::vector<std::int64_t>>> LastSelection() = 0;

  /// D, and which of the D parts of a batch this rank takes.
  virtual std::int64_t replicas() const { return 1; }
  virtual std::int64_t replica() const { return 0; }
  /// The ranks in the order of the latents in their state(): whoever saves goes through it. Null:
  /// the order of the communicator the engine was made with.
  virtual comm::Communicator* owners() { return nullptr; }

  virtual std::int64_t step() const = 0;
  virtual std::int64_t tokens() const = 0;
  /// Everything a checkpoint keeps, of the latents this rank owns. After the caller overwrote its
  /// contents, call StateLoaded(). Both by all ranks together.
  virtual model::State state() = 0;
  [[nodiscard]] virtual absl::Status StateLoaded() = 0;

  /// relu_l1 and gated (config::HasDenseStep): entries of the last step (codes f > 0; open
  /// gates), as a share of batch x latents, from which on a step uses dense products. 0 = always,
  /// above 1 = never; the default is measured. Equal on every rank, and across a resume that is to
  /// be bit for bit.
  virtual void set_dense_density(double density) = 0;

  /// From now on steps share with the gang's other engines what does not depend on parameters
  /// (engine_gang.h), borrowed; null: alone again. Between steps. An engine that
  /// cannot share steps alone.
  virtual void JoinGang(EngineGang* gang) { (void)gang; }
};

/// Called by all ranks together. `config` is resolved and valid; `communicator.size() ==
/// config.ranks`. d_out: width of the
/// targets of a transcoder; d for every other trial. Borrows communicator and pool.
template <class T>
[[nodiscard]] absl::StatusOr<std::unique_ptr<Engine<T>>> CreateEngine(
    const config::TrialConfig& config, std::int64_t d, std::int64_t d_out,
    comm::Communicator& communicator, ThreadPool& pool);

/// Of an SAE: inputs and outputs of one width.
template <class T>
[[nodiscard]] absl::StatusOr<std::unique_ptr<Engine<T>>> CreateEngine(
    const config::TrialConfig& config, std::int64_t d, comm::Communicator& communicator,
    ThreadPool& pool) {
  return CreateEngine<T>(config, d, d, communicator, pool);
}

}  // namespace sae::train
