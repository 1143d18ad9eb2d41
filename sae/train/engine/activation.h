#pragma once
// What an architecture does between the encoder's product and the decoder: which latents are active,
// with which codes, and how the loss's gradient reaches pre-activations, biases and thresholds. One
// per engine, made by CreateActivation. Encode and Backward are collective. They keep their buffers.
// Not thread-safe. Sources: spec algorithms.md 1-4.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "sae/kernels/encode.h"
#include "sae/model/parameters.h"
#include "sae/model/state.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/column_decoder.h"
#include "sae/train/engine/entries.h"
#include "sae/train/engine/reconstructor.h"
#include "sae/train/engine/skip.h"

namespace sae::train {

/// Gradients of one value a latent, [count] each; empty where the architecture has no such thing.
template <class T>
struct LatentGradients {
  using Vector = kernels::AlignedVector<T>;
  Vector b_enc, b_mag, r_mag, threshold;
  Vector delta_sums;   ///< sum of dL/dz over all tokens: what W_enc's row sees of b_dec
  Vector norm;         ///< dL/d|W_dec_i|
  Vector dense_delta;  ///< the part of dL/dz that every token shares
};

template <class T>
struct BackwardInput {
  const Batch<T>* batch = nullptr;
  const model::Parameters<T>* parameters = nullptr;
  const T* row_scale = nullptr;  ///< [count] or null
  const T* norms = nullptr;      ///< |W_dec_i|, [count]; where a penalty needs them
  Reconstructor<T>* reconstructor = nullptr;
  Skip<T>* skip = nullptr;
  ColumnDecoder<T>* columns = nullptr;  ///< where the decoder is cut by columns
  double rho = 0;
  double lambda = 0;   ///< sparsity coefficient in force
  double mean_l0 = 0;  ///< of this batch, over all ranks; l0_quadratic only
};

/// What a backward adds to the loss.
struct PenaltyTerms {
  double local = 0;       ///< this rank's latents' part
  double replicated = 0;  ///< the same on every rank
};

template <class T>
class DenseRule;

template <class T>
class Activation {
 public:
  virtual ~Activation() = default;

  /// Whether c of the encoder holds b_enc (a gate compares with its bias instead).
  virtual bool folds_encoder_bias() const { return true; }
  /// Fills codes, f and finite of `out`. `training` false: as after training (BatchTopK: threshold).
  [[nodiscard]] virtual absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                                            kernels::EncodeWorkspace<T>* workspace,
                                            Entries<T>* out, Phases* phases) = 0;
  /// From entries->u: entries->delta, and the vectors of `gradients` this architecture has.
  [[nodiscard]] virtual absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input,
                                                              Entries<T>* entries,
                                                              LatentGradients<T>* gradients,
                                                              Phases* phases) = 0;
  /// Sum over tokens and this rank's latents of the penalty without its coefficient.
  virtual double PenaltySum(const BackwardInput<T>& input, const Entries<T>& entries) const {
    (void)input, (void)entries;
    return 0;
  }
  /// What a dense step does in place of Encode and Backward; null: there is no dense step. Borrows
  /// this.
  virtual std::unique_ptr<DenseRule<T>> CreateDenseRule();
  /// After a step that went through.
  virtual void Commit() {}
  /// Scalars a checkpoint keeps.
  virtual void AddState(model::State* state) { (void)state; }
  virtual void AddMetrics(std::map<std::string, double>* out) const { (void)out; }
  /// Multi-TopK: the wider selection of the last Encode; else null.
  virtual Entries<T>* wide() { return nullptr; }
};

/// Borrows both for its life.
template <class T>
std::unique_ptr<Activation<T>> CreateActivation(const Context& context,
                                                const model::Parameters<T>& parameters);

}  // namespace sae::train
