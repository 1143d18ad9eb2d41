#pragma once
// The parameters of one shard of an SAE, in scaled units (x' = x / S). Owns its memory, whose
// addresses stay the same from construction on. Not thread-safe.

#include <cstdint>
#include <span>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/model/shard.h"

namespace sae::model {

template <class T>
struct Parameters {
  Parameters(std::int64_t latents, std::int64_t width)
      : count(latents),
        d(width),
        w_enc(Size(latents * width)),
        w_dec(Size(latents * width)),
        b_enc(Size(latents)),
        b_dec(Size(width)) {}

  std::int64_t count;  ///< latents of this shard
  std::int64_t d;
  kernels::AlignedVector<T> w_enc;  ///< [count, d]
  kernels::AlignedVector<T> w_dec;  ///< [count, d], rows of unit norm
  kernels::AlignedVector<T> b_enc;  ///< [count]
  kernels::AlignedVector<T> b_dec;  ///< [d], the same on every rank

 private:
  static std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
};

/// Decoder rows UnitDirection(seed, global id), encoder rows equal to them (transposed init), b_enc
/// 0, b_dec as given.
template <class T>
void InitialiseParameters(std::uint64_t seed, const LatentShard& shard,
                          std::span<const double> b_dec, Parameters<T>* out);

}  // namespace sae::model
