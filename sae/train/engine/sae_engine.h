#pragma once
// The one implementation of Engine: TopK with AuxK, and ReLU-L1, on the generic sparse backward,
// latents sharded over the ranks of a communicator. See engine.h for the contract. Numerics:
// pre-activations as scale * (W x) + c, c folded in float64; reconstruction in T, summed over ranks
// in rank order; loss and metric sums, and the sums over ranks of b_dec's gradient, in float64.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/codes.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/row_update.h"
#include "sae/model/metrics.h"
#include "sae/model/parameters.h"
#include "sae/optim/adam.h"
#include "sae/optim/schedule.h"
#include "sae/train/engine/auxk.h"
#include "sae/train/engine/dense_relu.h"
#include "sae/train/engine/engine.h"
#include "sae/train/engine/global_topk.h"

namespace sae::train {

template <class T>
class SaeEngine final : public Engine<T> {
 public:
  explicit SaeEngine(const Context& context);

  absl::Status Initialise(std::span<const float> sample) override;
  absl::Status Step(std::span<const float> rows) override;
  absl::StatusOr<std::map<std::string, double>> LastMetrics() override;
  void BeginEvaluation(std::span<const float> mean) override;
  absl::Status EvaluateBatch(std::span<const float> rows) override;
  absl::StatusOr<std::map<std::string, double>> FinishEvaluation() override;
  absl::StatusOr<std::vector<std::vector<std::int64_t>>> LastSelection() override;
  std::int64_t step() const override { return step_; }
  std::int64_t tokens() const override { return tokens_; }
  model::State state() override;
  absl::Status StateLoaded() override;
  void set_dense_density(double density) override { dense_density_ = density; }

 private:
  struct Losses {
    double main = 0;
    double l1 = 0;
    double aux = 0;
    double total() const { return main + l1 + aux; }
  };
  /// Sums over all ranks that a step needs, in one collective.
  struct StepSums {
    double active = 0;
    double l1 = 0;
    double dead = 0;
  };

  T inverse_scale() const { return static_cast<T>(1 / input_scale_); }
  [[nodiscard]] absl::Status CheckReady(std::span<const float> rows, const char* what) const;
  void Load(std::span<const float> rows);
  kernels::EncodeInput<T> EncodeInputOf(std::int64_t tokens) const;
  /// Fills codes_ (of x_, `tokens` rows).
  [[nodiscard]] absl::Status Encode(std::int64_t tokens);
  /// x_hat_ from codes_, summed over ranks, b_dec added once.
  [[nodiscard]] absl::Status Decode(std::int64_t tokens);
  [[nodiscard]] absl::Status ScaleEncoder();

  bool UsesDense() const;
  [[nodiscard]] absl::Status SparseStep();
  [[nodiscard]] absl::Status DenseStep();
  template <class Fired>
  void CountTokensSinceFired(const Fired& fired);
  [[nodiscard]] absl::Status RunAux();
  /// sum over tokens of delta, per latent, main and aux.
  void SumDelta();
  /// b_dec's gradient, from g_, the aux term and `delta_sums` reduced over ranks.
  [[nodiscard]] absl::Status ReduceStep(const T* delta_sums, StepSums local);
  [[nodiscard]] absl::Status CheckLoss() const;
  kernels::Adam AdamNow() const;
  void FinishStep();
  double L1Now() const;
  /// last_reconstruction_ of the last step, while x_ and x_hat_ still hold it.
  void MeasureLastStep();

  const Context context_;
  const std::int64_t batch_;
  const bool topk_;
  const optim::Schedule schedule_;
  double dense_density_ = kDenseDensity;

  model::Parameters<T> parameters_;
  optim::Moments<T> moments_;
  std::vector<std::int64_t> since_fired_;
  std::int64_t step_ = 0;
  std::int64_t tokens_ = 0;
  std::int64_t
      last_active_;         // codes f > 0 of the last step, all ranks: chooses the next step's path
  double input_scale_ = 0;  // 0 = not initialised
  double sample_variance_ = 0;

  kernels::AlignedVector<T> x_, x_hat_, g_;  // batch x d
  std::vector<T> c_;
  kernels::EncodeWorkspace<T> workspace_;
  GlobalTopK<T> selector_;
  std::vector<std::int64_t> offered_;
  kernels::Codes<T> codes_;
  kernels::LatentIndex index_;
  std::vector<T> delta_, delta_sums_, column_;
  kernels::RowWorkspace<T> row_workspace_;
  std::vector<kernels::GradientTerm<T>> terms_;
  std::vector<double> reduce_;  // d + 3
  std::vector<T> bias_gradient_;
  std::unique_ptr<AuxK<T>> aux_;
  std::unique_ptr<DenseRelu<T>> dense_;
  bool finite_ = true;

  Phases phases_;
  Losses losses_;
  StepSums sums_;
  std::int64_t last_tokens_ =
      0;  // rows of x_ and x_hat_ that belong to the last step; 0 = overwritten
  bool last_dense_ = false;
  bool measured_ = false;  // last_reconstruction_ is of the last step
  double last_lr_ = 0;
  double last_l1_coefficient_ = 0;
  model::ReconstructionMetrics last_reconstruction_;

  model::ReconstructionAccumulator evaluation_;
  std::vector<std::uint8_t> evaluation_fired_;
  double evaluation_active_ = 0;
  double evaluation_l1_ = 0;
};

}  // namespace sae::train
