#pragma once
// The one implementation of Engine, for every architecture: chunked encode with selection, sparse
// decode, generic sparse backward by latent, fused row update; latents sharded over the ranks of a
// communicator. What differs between architectures is in Activation. See engine.h for the contract.
// Numerics: pre-activations as scale * (W x) + c, c folded in float64; reconstruction in T; loss and
// metric sums, and the sums over ranks of b_dec's gradient, in float64.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sae/config/dense_density.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/row_step.h"
#include "sae/kernels/screen.h"
#include "sae/model/metrics.h"
#include "sae/model/parameters.h"
#include "sae/optim/adam.h"
#include "sae/optim/ema.h"
#include "sae/optim/l0_controller.h"
#include "sae/optim/schedule.h"
#include "sae/train/engine/activation.h"
#include "sae/train/engine/auxk.h"
#include "sae/train/engine/dense_step.h"
#include "sae/train/engine/engine.h"
#include "sae/train/engine/gradient_reducer.h"
#include "sae/train/engine/main_loss.h"
#include "sae/train/engine/resample.h"
#include "sae/train/engine/step_bytes.h"
#include "sae/train/engine/step_rules.h"
#include "sae/train/engine/wide_loss.h"

namespace sae::train {

template <class T>
class SaeEngine final : public Engine<T> {
 public:
  SaeEngine(const Context& context, std::unique_ptr<Mesh> mesh);

  std::int64_t row_width() const override { return batch_.row_width(); }
  absl::Status Initialise(std::span<const float> sample) override;
  absl::Status Step(std::span<const float> rows) override;
  absl::StatusOr<std::map<std::string, double>> LastMetrics() override;
  std::optional<double> LastExchangeMs() const override { return phases_.exchange; }
  void BeginEvaluation(std::span<const float> mean) override;
  absl::Status EvaluateBatch(std::span<const float> rows) override;
  absl::StatusOr<std::map<std::string, double>> FinishEvaluation() override;
  absl::StatusOr<std::vector<std::vector<std::int64_t>>> LastSelection() override;
  std::int64_t replicas() const override { return context_.replicas(); }
  std::int64_t replica() const override { return context_.replica(); }
  comm::Communicator* owners() override { return &mesh_->owners(); }
  std::int64_t step() const override { return step_; }
  std::int64_t tokens() const override { return tokens_; }
  model::State state() override;
  /// The same of all latents of the shard, but moments: of those this rank owns; a decoder cut by
  /// columns as it lies, own blocks x latents rows of one block's width. For an engine elsewhere
  /// that keeps values there. Not collective.
  model::State whole_state() { return StateOf({0, context_.shard.count}, /*rows=*/false); }
  /// Of a decoder cut by columns: |d_i|^2 of all latents, by global id.
  const std::vector<double>& column_norm2() const { return columns_->norm2(); }
  absl::Status StateLoaded() override;
  void set_dense_density(double density) override { dense_density_ = density; }
  /// For comparisons, with `train.moments` other than f32: training rounds stochastically.
  void set_moment_rounding(kernels::MomentRounding rounding) {
    moments_.reduced->set_rounding(rounding);
  }
  void JoinGang(EngineGang* gang) override;

  /// Whether dead latents start over once `step` steps are made.
  bool ResampleDue(std::int64_t step) const {
    return resampler_ != nullptr && resampler_->Due(step);
  }
  /// They do, by the last step's batch and its reconstruction (scaled units). Step calls it where it
  /// is due, and so does an engine elsewhere whose values state() holds. Collective.
  [[nodiscard]] absl::Status ResampleDead(const Batch<T>& batch, const T* x_hat);

 private:
  /// `rows`: where the decoder is cut by columns, as whole rows of latents. Collective then.
  model::State StateOf(LatentRange part, bool rows = true);
  struct Losses {
    double main = 0;
    double penalty = 0;
    double aux = 0;
    double total() const { return main + penalty + aux; }
  };
  /// Sums over all ranks that a step needs, in one collective.
  struct StepSums {
    double active = 0;   ///< codes f > 0
    double entries = 0;  ///< what the sparse path gathers: gated: open gates
    double penalty = 0;
    double dead = 0;
  };

  [[nodiscard]] absl::Status CheckReady(std::span<const float> rows, const char* what) const;
  /// What of a batch this replica takes.
  std::span<const float> OwnPart(std::span<const float> rows) const;
  // Initialisation (sae_engine_init.cc).
  struct Sample {
    std::int64_t rows = 0;
    std::vector<float> x, y;  ///< rows x d; rows x d_out of a transcoder
  };
  [[nodiscard]] absl::StatusOr<Sample> Split(std::span<const float> sample) const;
  [[nodiscard]] absl::Status MeasureInput(const Sample& sample);
  [[nodiscard]] absl::Status ScaleEncoder();
  [[nodiscard]] absl::Status InitialiseThresholds(const Sample& sample);
  double InitialPenalty() const;

  // Parts of a step (sae_engine_step.cc, sae_engine_update.cc).
  kernels::EncodeInput<T> EncodeInputOf();
  /// c_, the biases of pre-activations.
  void FoldBiases();
  /// entries_ of the batch.
  [[nodiscard]] absl::Status Encode(bool training);
  [[nodiscard]] absl::Status UpdateNorms();
  typename MainLoss<T>::Input MainInput(double rho) const;
  BackwardInput<T> BackwardInputOf(double rho, double mean_l0);
  double LossScale() const;
  /// FVU's over all replicas.
  [[nodiscard]] absl::Status ReduceLossScale();
  [[nodiscard]] absl::StatusOr<double> MeanL0();
  void CatchUpTouched(const kernels::LatentIndex& index);
  void CatchUpAll();
  bool UsesDense() const;
  void FreeDense();
  [[nodiscard]] absl::Status SparseStep();
  [[nodiscard]] absl::Status DenseStep();
  template <class Fired>
  [[nodiscard]] absl::Status CountTokensSinceFired(const Fired& fired);
  [[nodiscard]] absl::Status RunAux();
  void CollectTerms();
  /// bias_gradient_ of this replica.
  [[nodiscard]] absl::StatusOr<double> MakeBiasGradient();
  /// Adds to bias_gradient_; returns the loss.
  double AddBiasOnlyTerm();
  [[nodiscard]] absl::Status ReduceStep(PenaltyTerms penalty, std::int64_t active,
                                        std::int64_t entries);
  /// The factor of clipping; 1 without.
  [[nodiscard]] absl::StatusOr<double> GradientScale(const kernels::RowGradientInput<T>& input);
  kernels::RowGradientInput<T> RowInput();
  kernels::RowUpdateOptions RowOptions(double gradient_scale) const;
  kernels::RowParameters<T> Rows();
  typename ColumnDecoder<T>::StepInput ColumnStep(double gradient_scale);
  /// What lies by columns: of parameters, moments, mean.
  std::vector<kernels::AlignedVector<T>*> Columns();
  void AddColumnRows();
  [[nodiscard]] absl::Status TakeColumnRows();
  void ObserveMean();
  double ThresholdRate() const;
  [[nodiscard]] absl::Status MeanVectorGradients();
  [[nodiscard]] absl::StatusOr<T*> SkipGradient();
  [[nodiscard]] absl::Status UpdateVectors(double gradient_scale);
  /// With replicas: what the owners made of their latents goes to all.
  [[nodiscard]] absl::Status ShareOwned(model::Parameters<T>* parameters);
  [[nodiscard]] absl::Status CheckLoss() const;
  kernels::Adam AdamAt(std::int64_t t) const;
  [[nodiscard]] absl::Status FinishStep();
  double LambdaNow();
  /// last_reconstruction_ of the last step, while the batch and x_hat still hold it.
  [[nodiscard]] absl::Status MeasureLastStep();
  /// Adds the sums of all replicas.
  [[nodiscard]] absl::Status ReduceSums(model::ReconstructionAccumulator* sums);

  const std::unique_ptr<Mesh> mesh_;
  const Context context_;
  const std::int64_t batch_size_;  // of all replicas
  const optim::Schedule schedule_;
  double dense_density_;

  model::Parameters<T> parameters_;
  optim::Moments<T> moments_;  // of the owned latents
  std::unique_ptr<optim::Ema<T>> ema_;
  std::unique_ptr<model::Parameters<T>> swapped_;  // evaluation with ema: the live ones aside
  std::optional<optim::L0Controller> controller_;
  std::vector<std::int64_t> since_fired_;
  std::vector<std::int64_t> last_step_;  // lazy and deferred rows
  std::int64_t step_ = 0;
  std::int64_t tokens_ = 0;
  std::int64_t last_active_;  // entries of the last step, all ranks: chooses the next step's path
  double input_scale_ = 0;    // 0 = not initialised
  double sample_variance_ = 0;

  EngineGang* gang_ = nullptr;
  Batch<T> batch_;
  Reconstructor<T> reconstructor_;
  std::unique_ptr<Activation<T>> activation_;
  MainLoss<T> main_;
  Entries<T> entries_;
  std::unique_ptr<AuxK<T>> aux_;
  std::unique_ptr<WideLoss<T>> wide_;
  std::unique_ptr<train::DenseStep<T>> dense_;
  std::unique_ptr<Resampler<T>> resampler_;
  std::unique_ptr<GradientReducer<T>> reducer_;  // with replicas
  // Where the decoder is cut by columns: W_dec, its moments and mean are [n, d_out / L] by blocks.
  std::unique_ptr<ColumnDecoder<T>> columns_;
  std::vector<kernels::AlignedVector<T>> column_rows_;  // of state(), until the next step
  bool evaluates_mean_ = false;  // parameters_ is the mean
  std::vector<double> mean_norm2_;                      // of evaluation with ema
  std::unique_ptr<kernels::Screen> screen_;
  kernels::EncodeWorkspace<T> workspace_;
  std::vector<T> c_;
  std::vector<T> norms_, row_scale_;
  LatentGradients<T> gradients_;
  kernels::RowWorkspace<T> row_workspace_;
  std::vector<kernels::GradientTerm<T>> terms_;
  std::vector<double> encoder_sums_;  // d: the encoder's term of b_dec's gradient
  std::vector<T> bias_gradient_, column_, column_sums_, x_sum_;
  std::vector<std::int32_t> touched_;
  std::vector<std::uint8_t> fired_;  // with replicas
  T* skip_gradient_ = nullptr;       // of this step, once it is made
  mutable std::vector<double> target_mean_;  // scratch of LossScale

  void CountBytes();
  StepBytes step_bytes_;
  StepBytes::Meeting meeting_;
  double step_ms_ = 0, product_ms_ = 0;  // of the last step; products: of all threads

  double rho_ = 0;  // LossScale of the step at hand
  Phases phases_;
  Losses losses_;
  StepSums sums_;
  std::int64_t last_tokens_ = 0;  // rows of the batch that belong to the last step; 0 = overwritten
  bool last_dense_ = false;
  bool measured_ = false;  // last_reconstruction_ is of the last step
  absl::Status measure_status_;
  double last_lr_ = 0;
  double last_lambda_ = 0;
  double last_norm_ = 0;
  model::ReconstructionMetrics last_reconstruction_;

  model::ReconstructionAccumulator evaluation_;
  kernels::AlignedVector<T> raw_, raw_hat_;  // evaluation
  std::vector<std::uint8_t> evaluation_fired_;
  double evaluation_active_ = 0;
  double evaluation_penalty_ = 0;
};

/// As CreateEngine.
template <class T>
[[nodiscard]] absl::StatusOr<std::unique_ptr<SaeEngine<T>>> CreateSaeEngine(
    const config::TrialConfig& config, std::int64_t d, std::int64_t d_out,
    comm::Communicator& communicator, ThreadPool& pool);

}  // namespace sae::train
