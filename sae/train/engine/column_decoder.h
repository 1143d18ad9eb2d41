#pragma once
// The decoder cut by columns: of W_dec [n, d_out] rank r of L holds 8 / L of 8 blocks of d_out / 8
// columns, all latents, each block contiguous [n, d_out / 8]: as many values as its n / L rows.
// Winners are exchanged instead of reconstructions (column_codes.h); each rank decodes its columns,
// and what spans a row (direction . gradient, loss, |d_i|^2) is the sum of 8 parts, one a block, in
// order: the bits are the same at L = 1, 2, 4, 8. Collective over the shards. Keeps its buffers.
// Not thread-safe. Bytes a rank contributes a token beyond the winners: 4 (8 / L) an entry of all
// ranks' codes. Sources: spec numerics.md 2; performance.md (f), "Where to cut the weights".

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/column_step.h"
#include "sae/train/engine/batch.h"
#include "sae/train/engine/column_codes.h"

namespace sae::train {

inline constexpr std::int64_t kColumnBlocks = 8;

template <class T>
class ColumnDecoder {
 public:
  explicit ColumnDecoder(const Context& context);

  /// Rows of this rank's latents [count, d_out] become its columns of all latents, in place, and
  /// back.
  [[nodiscard]] absl::Status ToColumns(T* values);
  [[nodiscard]] absl::Status ToRows(const T* columns, T* rows);

  /// Codes of the batch; everything below is about them. `w`: this rank's columns.
  struct Input {
    const Batch<T>* batch = nullptr;
    const T* w = nullptr;
    const T* bias = nullptr;                   ///< d_out
    const kernels::Codes<T>* codes = nullptr;  ///< of this rank, local ids
    const T* f = nullptr;
    bool finite = true;
    double rho = 0;  ///< R(e) = rho sum e^2
  };
  /// The reconstruction alone; x_hat() afterwards.
  [[nodiscard]] absl::Status Forward(const Input& input, Phases* phases);
  /// Reconstruction, its gradient, u of this rank's entries. Returns the loss: over prefixes,
  /// weighted, of Matryoshka; NaN where a pre-activation was.
  [[nodiscard]] absl::StatusOr<double> ForwardBackward(const Input& input, T* u, Phases* phases);
  /// A second reconstruction of the same entries by `values` in place of f, which gives the decoder
  /// no gradient (the gate's): its loss, and v of this rank's entries.
  [[nodiscard]] absl::StatusOr<double> SecondLoss(const Input& input, const T* values, T* v,
                                                  Phases* phases);
  /// AuxK: input.codes and f are the dead latents'. Loss and delta of this rank's entries; false
  /// where the residual's variance is 0 or not finite.
  [[nodiscard]] absl::StatusOr<bool> Aux(const Input& input, double alpha_variance, double* loss,
                                         T* delta, Phases* phases);
  void NoAux() { aux_on_ = false; }

  /// The whole reconstruction, tokens x d_out. Collective: d_out values a token.
  [[nodiscard]] absl::Status Reconstruction(T* x_hat, Phases* phases);
  /// sum over tokens of dL/dx_hat, d_out values, AuxK's included.
  [[nodiscard]] absl::Status BiasGradient(T* out, Phases* phases);

  /// |d_i|^2 of all latents from the columns: after initialisation, a load, or for other columns.
  [[nodiscard]] absl::Status MeasureNorms(const T* w, std::vector<double>* norm2, Phases* phases);
  [[nodiscard]] absl::Status MeasureNorms(const T* w, Phases* phases) {
    return MeasureNorms(w, &norm2_, phases);
  }
  /// |d_i|^2 of all latents, by global id, as they are now.
  std::vector<std::int32_t> global_;  // id of rank s's local latent i at s * count + i
  const std::vector<double>& norm2() const { return norm2_; }

  struct StepInput {
    kernels::Adam adam;
    double gradient_scale = 1;
    const T* norm_gradient = nullptr;  ///< of this rank's latents, or null
    T* w = nullptr;
    T* m = nullptr;
    T* v = nullptr;
  };
  /// Squared norm of the decoder's gradient, projected, before clipping.
  [[nodiscard]] absl::StatusOr<double> GradientSquaredNorm(const StepInput& input, Phases* phases);
  [[nodiscard]] absl::Status Update(const StepInput& input, Phases* phases);

 private:
  using Vector = kernels::AlignedVector<T>;
  /// One set of codes and what the blocks make of it.
  struct Part {
    explicit Part(const Context& context) : codes(context) {}
    ColumnCodes<T> codes;
    std::vector<Vector> g;  ///< by group: own blocks x tokens x width
    std::vector<T> u;       ///< nnz, of whole rows
  };

  std::int64_t ValuesOf(std::int64_t tokens) const { return tokens * width_; }
  void LoadTargets(const Batch<T>& batch);
  void FillBias(const T* bias, std::int64_t tokens, T* out);
  /// Of prefixes: codes of a range of global ids added to, or dotted with, one block.
  void AddRange(const Part& part, const T* w, LatentRange range, T* out);
  void DotGroups(const Part& part, const T* w, std::int64_t block, T* u);
  [[nodiscard]] absl::StatusOr<double> PlainLoss(const Input& input, const T* f, Part* part,
                                                 Vector* x_hat, Vector* g, std::vector<T>* u,
                                                 Phases* phases);
  [[nodiscard]] absl::StatusOr<double> PrefixLoss(const Input& input, Phases* phases);
  /// 8 parts of one value each from the own ones, and their sum in order.
  [[nodiscard]] absl::StatusOr<double> SumBlocks(std::span<const double> own, Phases* phases);
  /// out[i] = sum over the 8 blocks of their parts, in order; own: own blocks x count.
  [[nodiscard]] absl::Status AddParts(const T* own, std::int64_t count, T* out, Phases* phases);
  [[nodiscard]] absl::Status ShareNorms(Phases* phases);
  kernels::ColumnBlock<T> Block(std::int64_t block, const StepInput& input) const;
  void CollectTerms(std::int64_t block);
  [[nodiscard]] absl::StatusOr<kernels::ColumnStepOptions<T>> StepOptions(const StepInput& input,
                                                                          Phases* phases);

  const Context& context_;
  const std::int64_t width_;         // of a block
  const std::int64_t own_;           // blocks of this rank
  std::vector<LatentRange> groups_;  // of global ids: Matryoshka's prefixes, or all
  Part main_, aux_;
  bool aux_on_ = false;
  Vector targets_, x_hat_, temporary_;  // own blocks x tokens x width
  Vector second_hat_, second_g_;
  std::vector<T> second_f_, second_u_, gathered_, u_parts_, all_parts_;
  std::vector<double> own_sums_, all_sums_, norm2_;
  std::vector<T> norm_parts_, all_norms_, factors_, norm_gradient_, column_;
  std::vector<kernels::ColumnTerm<T>> terms_;
  kernels::ColumnWorkspace<T> workspace_;
};

}  // namespace sae::train
