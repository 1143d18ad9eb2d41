#pragma once
// The step of an SAE on a device: the same mathematics as SaeEngine, from kernels of
// sae/kernels/device, buffers, streams and graphs of a DeviceRuntime, and collectives on device
// memory. A step is enqueued as a whole, without waiting for the host inside (with one rank, or
// stream-ordered collectives, it is captured in a graph once and replayed); buffers whose size data
// decides start small: a step that does not fit changes nothing, says so, and is repeated with
// more. Step returns while the device works: its rows come from the host meanwhile, and what went
// wrong in it the next call says. The host keeps a SaeEngine: it makes initial values and holds
// what checkpoints save; state() brings the device's values there. See engine.h for the contract.
// Not thread-safe. UNIMPLEMENTED (SupportedOnDevice) for what only the CPU engine does.

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/deferred_rows.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/device/vectors.h"
#include "sae/model/metrics.h"
#include "sae/optim/l0_controller.h"
#include "sae/optim/p_anneal.h"
#include "sae/optim/schedule.h"
#include "sae/train/device/device_batch_topk.h"
#include "sae/train/device/device_columns.h"
#include "sae/train/device/device_inbox.h"
#include "sae/train/device/device_parameters.h"
#include "sae/train/device/device_reconstructor.h"
#include "sae/train/device/device_scalars.h"
#include "sae/train/device/device_topk.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/context.h"
#include "sae/train/engine/engine.h"

namespace sae::train {

template <class T>
class SaeEngine;

/// OK, or UNIMPLEMENTED naming the option that the device engine lacks and what to set instead.
[[nodiscard]] absl::Status SupportedOnDevice(const config::TrialConfig& resolved);

class DeviceEngine final : public Engine<float> {
 public:
  /// As CreateEngine. `communicator`: collectives on host memory; `parts.collectives`: on the
  /// device's. All borrowed.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Engine<float>>> Create(
      const config::TrialConfig& config, std::int64_t d, std::int64_t d_out,
      comm::Communicator& communicator, ThreadPool& pool, const DeviceParts& parts);
  ~DeviceEngine() override;

  std::int64_t row_width() const override { return batch_.row_width(); }
  absl::Status Initialise(std::span<const float> sample) override;
  absl::Status Step(std::span<const float> rows) override;
  absl::Status Settle() override;
  absl::StatusOr<std::map<std::string, double>> LastMetrics() override;
  void BeginEvaluation(std::span<const float> mean) override;
  absl::Status EvaluateBatch(std::span<const float> rows) override;
  absl::StatusOr<std::map<std::string, double>> FinishEvaluation() override;
  absl::StatusOr<std::vector<std::vector<std::int64_t>>> LastSelection() override;
  std::int64_t replicas() const override { return context_.replicas(); }
  std::int64_t replica() const override { return context_.replica(); }
  comm::Communicator* owners() override { return &mesh_->owners(); }
  std::int64_t step() const override { return step_ + (pending_ ? 1 : 0); }
  std::int64_t tokens() const override {
    return tokens_ + (pending_ ? context_.config.train.batch : 0);
  }
  model::State state() override;
  absl::Status StateLoaded() override;
  void set_dense_density(double) override {}  ///< there is no dense step here

 private:
  /// Sizes that data decides; they only grow.
  struct Capacities {
    std::int64_t slots = 0;    ///< entries of one token, where their number varies
    std::int64_t ties = 0;     ///< entries of a batch equal to BatchTopK's cut
    std::int64_t dead = 0;     ///< dead latents that AuxK encodes; 0: no AuxK this step
    std::int64_t unsafe = 0;   ///< tokens of a second selection round
    std::int64_t winners = 1;  ///< times what ranks exchange of their codes at first
  };

  DeviceEngine(const Context& context, std::unique_ptr<Mesh> mesh, const DeviceParts& parts);
  absl::Status Allocate();
  absl::Status AllocateScratch();
  absl::Status AllocateEntries();
  absl::Status AllocateAux();
  void DropGraph();

  bool weighted() const;
  bool bf16() const { return context_.config.train.selection == "bf16"; }
  bool varies() const { return !context_.options.ranked(); }
  kernels::device::LatentRule rule() const;
  DeviceScalars* at() const { return scalars_.data(); }
  /// A scalar of the host engine's state; null where it has none of this name.
  template <class V>
  V* HostScalar(const std::string& name);
  void PullScalars();
  void PushScalars();
  absl::Status UploadState();
  absl::Status DownloadState();

  // device_engine_forward.cc
  absl::Status Stage(std::span<const float> rows);
  absl::Status Take();
  absl::Status WriteScalars();
  absl::Status ReadScalars();
  kernels::device::WeightRows EncoderRows() const;
  kernels::device::WeightRows DecoderRows() const;
  kernels::device::EncodeParams EncodeInput();
  absl::Status PrepareWeights();
  absl::Status Encode(bool training, DeviceEntries* out);
  absl::Status CopyCounts();
  absl::Status EncodeAbove(const float* lower, DeviceEntries* out);
  absl::Status EncodeAboveThreshold(DeviceEntries* out);
  absl::Status Decode(const DeviceEntries& entries, const float* f, bool bias, float* parts,
                      const kernels::device::Groups& groups);
  kernels::device::Groups GroupsOf() const;
  kernels::device::Groups OneGroup() const;
  /// Entries of this rank's last codes. After a ReadScalars.
  std::int64_t OwnEntries() const { return pinned_->entries; }
  // device_engine_evaluate.cc
  absl::Status BeginFired();
  absl::Status EvaluateForward();
  absl::Status ForwardBatch();
  absl::StatusOr<double> PenaltySum();
  // device_engine_columns.cc
  absl::Status AllocateColumns();
  absl::Status AllocateWinners();
  DeviceWinners::Shape WinnersOf(const DeviceEntries& own, std::int64_t of_token) const;
  std::int64_t DecodedWidth() const;
  kernels::device::Groups ColumnGroups() const;
  kernels::device::WeightRows ColumnWeights(std::int64_t block) const;
  kernels::device::DecodeParams ColumnDecode(std::int64_t block, const DeviceEntries& entries,
                                             const float* f, bool bias, float* parts,
                                             const kernels::device::Groups& groups);
  absl::Status ColumnForward();
  absl::Status ColumnPass(const DeviceEntries& entries, const float* f,
                          const kernels::device::Groups& groups, float* parts, float* x_hat);
  absl::Status ColumnGradients(std::int64_t block, const DeviceEntries& entries, const float* h,
                               const kernels::device::Groups& groups, float* u);
  absl::Status ColumnLoss();
  absl::Status ColumnGateLoss();
  absl::Status ColumnAux();
  absl::Status ColumnBias();
  absl::Status PrepareColumnRows();
  void UseEncoderAlone(kernels::device::RowUpdateParams* params) const;
  kernels::device::RowUpdateParams ColumnRows(std::int64_t block);
  absl::Status ColumnSquaredNorm();
  absl::Status UpdateColumns();
  absl::StatusOr<std::vector<float>> FetchReconstruction(const float* x_hat, std::int64_t tokens);
  // device_engine_penalty.cc
  bool Penalised(model::Penalty penalty) const;
  absl::Status AllocatePenalty();
  void PullAnneal();
  void PushAnneal();
  void SetAnnealedScalars();
  void CommitAnneal();
  absl::Status TargetTerms();
  absl::Status BiasOnlyTerm();
  absl::Status QuadraticTerm(bool loss);
  absl::Status BeforeRule(kernels::device::LatentRuleParams* rule);
  absl::Status AfterRule();
  double PenaltyOf(double f, double norm) const;
  // device_engine_fixed.cc
  absl::Status CreateReconstructor();
  void FixShape(kernels::device::EncodeParams* encode) const;
  absl::Status SumOfLatents(const double* values, double* out);
  absl::Status FixedLatentNorm2();
  absl::StatusOr<double> SumOfBlocks(std::span<const double> own);
  // device_engine_replicas.cc
  absl::Status CreateCollectives();
  absl::Status AllocateReplicas();
  absl::Status Wait();
  std::int64_t OwnLatents() const;
  absl::Status FiredAnywhere();
  absl::Status AuxVarianceOfAll();
  absl::Status ReduceLosses();
  absl::Status ReduceGradients();
  void UseReducedRows(kernels::device::RowUpdateParams* params);
  absl::Status ShareOwned();
  std::span<const float> OwnPart(std::span<const float> rows) const;
  absl::Status SumOverReplicas(model::ReconstructionAccumulator* sums) const;
  // device_engine_resample.cc
  absl::Status ResampleDead();
  // device_engine_rows.cc
  absl::Status AllocateRows();
  absl::Status RowsAreCurrent();
  absl::Status CatchUpRows();
  // device_engine_deferred.cc
  bool deferred() const;
  absl::Status AllocateHistory();
  absl::Status ExtendHistory();
  absl::Status CatchUpDecoder(const kernels::device::DeviceIndex* index);
  absl::Status CatchUpTouched(const DeviceEntries& entries);
  // device_engine_wide.cc
  bool multi() const { return context_.config.sae.multi_topk; }
  std::int64_t SelectedK() const { return (multi() ? 4 : 1) * context_.config.sae.k; }
  absl::Status AllocateWide();
  absl::Status WideLoss();
  // device_engine_skip.cc
  absl::Status AddSkip(float* parts);
  absl::Status SkipGradient();
  // device_engine_step.cc
  absl::Status BeginStep();
  absl::Status SettleStep();
  absl::Status RunStep();
  absl::Status EnqueueStep();
  absl::Status Residual(const kernels::device::Groups& groups, float* parts, float* x_hat);
  absl::Status LatentGradients(const DeviceEntries& entries, const kernels::device::Groups& groups,
                               const float* h, float* u);
  absl::Status MainLoss();
  absl::Status GateLoss();
  absl::Status Sum(const double* values, std::int64_t count, double* out);
  absl::Status Aux();
  absl::Status AuxSelect();
  absl::Status AuxScale();
  absl::Status LatentBackward();
  absl::Status AddBackward(const DeviceEntries& entries, const std::int32_t* enabled);
  absl::Status DecoderBias();
  absl::Status BiasGradient();
  absl::Status Reduce();
  absl::Status Clip();
  absl::Status Update();
  kernels::device::RowUpdateParams GradientInput();
  kernels::device::RowUpdateParams RowParams();
  absl::Status UpdateVectors();
  double ThresholdFactor() const;
  absl::Status Grow(const kernels::device::StepSums& sums);
  absl::Status GrowBuffers(const kernels::device::StepSums& sums);
  absl::Status CheckLoss() const;
  void CommitThreshold();
  void FinishStep();
  double LambdaNow() const;
  double LossScale() const;

  const std::unique_ptr<Mesh> mesh_;
  const Context context_;
  const DeviceParts parts_;
  std::unique_ptr<SaeEngine<float>> host_;
  DeviceRuntime& runtime_;
  void* stream_ = nullptr;
  bool owns_stream_ = false;
  std::unique_ptr<Mesh> device_mesh_;               // of device collectives; with replicas
  std::unique_ptr<DeviceCollectives> collectives_;  // between the shards of this replica
  std::unique_ptr<DeviceCollectives> replicas_, world_;
  DeviceReconstructor reconstructor_;  // with a fixed reduction
  void* graph_ = nullptr;
  int eager_steps_ = 0;  // since sizes changed last

  const optim::Schedule schedule_;
  std::optional<optim::L0Controller> controller_;
  std::optional<optim::PAnneal> anneal_;
  double input_scale_ = 0, sample_variance_ = 0, bandwidth_ = 0;
  double threshold_mean_ = 0, threshold_weight_ = 0;  // BatchTopK's running mean
  std::int64_t step_ = 0, tokens_ = 0;                // that have ended well
  bool pending_ = false;                              // one more is on the device
  std::chrono::steady_clock::time_point began_;

  Batch<float> batch_;
  Capacities capacity_;
  std::unique_ptr<DeviceParameters> parameters_;
  std::unique_ptr<DeviceColumns> columns_;  // where the decoder is cut by columns
  kernels::cuda::DeviceLibrary* library_ = nullptr;
  DeviceBuffer<std::uint8_t> encode_scratch_;
  DeviceTopK topk_, aux_topk_;
  DeviceBatchTopK batch_topk_;
  DeviceSlots slots_;
  DeviceEntries entries_, aux_entries_, wide_entries_;
  DeviceBuffer<DeviceScalars> scalars_;
  DeviceScalars* pinned_ = nullptr;
  DeviceInbox inbox_;
  DeviceBuffer<std::int32_t> global_ids_;
  DeviceBuffer<std::uint16_t> x_bf16_;
  DeviceBuffer<float> x_, y_, c_, norms_, row_scale_, theta_, lower_, scale_;
  DeviceBuffer<float> parts_buffer_, x_hat_, gate_, v_, gate_parts_, gate_hat_, aux_g_;
  DeviceBuffer<float> wide_g_, wide_hat_;
  DeviceBuffer<double> token_squares_, column_means_, partial_, sum_scratch_, column_scratch_;
  DeviceBuffer<double> encoder_sums_, latent_penalty_, row_norms_;
  DeviceBuffer<float> delta_sums_, d_b_enc_, d_b_mag_, d_r_mag_, d_threshold_, d_norm_, d_b_dec_,
      d_w_skip_;
  // With replicas: gradient rows of all latents, then the owned ones, reduced, and their indices.
  DeviceBuffer<float> gradient_enc_, gradient_dec_, own_enc_, own_dec_, ones_;
  DeviceBuffer<std::int32_t> enc_indptr_, dec_indptr_, enc_entries_, dec_entries_, row_numbers_;
  DeviceBuffer<std::int64_t> since_next_, evaluation_since_;
  DeviceBuffer<std::int64_t> last_step_;             // lazy rows, deferred decoder rows
  DeviceBuffer<kernels::device::RestStep> history_;  // deferred: of the steps of one window
  std::int64_t history_window_ = -1;                 // which; -1: before the first step
  DeviceBuffer<std::int32_t> dead_ids_, dead_scratch_;
  DeviceBuffer<double> target_moments_, powers_, below_;
  DeviceBuffer<float> x_sum_, dense_delta_;

  DeviceScalars last_{};  // of the last step
  double last_lr_ = 0, last_lambda_ = 0, last_ms_ = 0;
  std::int64_t last_tokens_ = 0;
  bool measured_ = false;
  model::ReconstructionMetrics last_reconstruction_;

  model::ReconstructionAccumulator evaluation_;
  std::vector<float> raw_, raw_hat_;
  double evaluation_active_ = 0, evaluation_penalty_ = 0;
  std::int64_t evaluation_tokens_ = 0;  // of the last batch, over replicas
  bool evaluation_begun_ = false;
  absl::Status state_status_;  // of the last state(): shown by the next call that can fail
};

}  // namespace sae::train
