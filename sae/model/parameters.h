#pragma once
// The parameters of one shard of an SAE, in scaled units (x' = x / S). Owns its memory, whose
// addresses stay the same from construction on. Not thread-safe. Vectors that an architecture does
// not have are empty.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/options.h"
#include "sae/model/shard.h"

namespace sae::model {

struct ParameterShape {
  std::int64_t count = 0;  ///< latents of this shard
  std::int64_t d = 0;      ///< width of the input
  std::int64_t d_out = 0;  ///< width of the output; d but for transcoders
  bool gated = false;      ///< b_mag, r_mag
  bool threshold = false;  ///< threshold
  bool skip = false;       ///< w_skip
  bool matrices = true;    ///< w_enc, w_dec: not of moments that lie elsewhere
};

ParameterShape ShapeOf(const Options& options, const LatentShard& shard, std::int64_t d,
                       std::int64_t d_out);

template <class T>
struct Parameters {
  using Vector = kernels::AlignedVector<T>;

  explicit Parameters(const ParameterShape& shape);

  std::int64_t count;
  std::int64_t d;
  std::int64_t d_out;
  Vector w_enc;      ///< [count, d]
  Vector w_dec;      ///< [count, d_out]
  Vector b_enc;      ///< [count]; gated: the gate's bias
  Vector b_dec;      ///< [d_out], the same on every rank
  Vector b_mag;      ///< [count] gated: bias of the magnitude
  Vector r_mag;      ///< [count] gated: log of the magnitude's scale
  Vector threshold;  ///< [count] jumprelu: log theta, or theta where the option says raw
  Vector w_skip;     ///< [d_out, d], the same on every rank

  struct Named {
    const char* name;  ///< "W_enc", ...
    Vector* values;
    std::vector<std::int64_t> shape;
    bool per_latent;
  };
  /// Every tensor that is there, in a fixed order; `log_threshold` names it so.
  std::vector<Named> All(bool log_threshold);
};

/// Decoder rows UnitDirection(seed, global id), encoder rows equal to them where the widths agree
/// (transposed init), else UnitDirection of another stream; biases 0 but b_dec as given.
template <class T>
void InitialiseParameters(std::uint64_t seed, const LatentShard& shard,
                          std::span<const double> b_dec, bool transposed, Parameters<T>* out);

}  // namespace sae::model
