#pragma once
// Moments of the two matrices in fewer bits, as `train.moments` says: bfloat16, 2 bytes, or 8-bit
// codes with a float32 scale for every 64 columns of a row, 1.0625 bytes a moment. Owns its memory,
// whose addresses stay. Not thread-safe. No errors.

#include <cstdint>
#include <functional>
#include <string>

#include "sae/kernels/aligned.h"
#include "sae/kernels/moment_rows.h"
#include "sae/model/parameters.h"
#include "sae/model/state.h"

namespace sae::optim {

/// Of `train.moments`: f32, bf16, int8.
kernels::MomentFormat MomentFormatOf(const std::string& name);

struct MomentStorage {
  kernels::MomentFormat format = kernels::MomentFormat::kF32;
  std::uint64_t seed = 0;  ///< of the rounding
  /// Of a local latent; called by any thread.
  std::function<std::int64_t(std::int64_t)> global_id;
};

class MatrixMoments {
 public:
  /// `storage.format` is not kF32. All moments are 0.
  MatrixMoments(const model::ParameterShape& shape, const MomentStorage& storage);
  MatrixMoments(const MatrixMoments&) = delete;
  MatrixMoments& operator=(const MatrixMoments&) = delete;

  const kernels::ReducedMoments& view() const { return view_; }
  /// For comparisons: what training takes is stochastic.
  void set_rounding(kernels::MomentRounding rounding) { view_.rounding = rounding; }
  /// "W_enc.adam_m", ...; of 8 bits "W_enc.adam_m_scale", ... too.
  void AddState(model::State* state);
  void ClearRow(std::int64_t latent);

 private:
  struct Matrix {
    const char* name;
    std::int64_t d;
    kernels::AlignedVector<std::uint8_t> m, v;
    kernels::AlignedVector<float> m_scale, v_scale;
  };
  Matrix MatrixOf(const char* name, std::int64_t d) const;

  std::int64_t count_;
  kernels::ReducedMoments view_;
  Matrix encoder_, decoder_;
};

}  // namespace sae::optim
