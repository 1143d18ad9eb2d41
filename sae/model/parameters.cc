#include "sae/model/parameters.h"

#include <algorithm>

#include "sae/model/init.h"

namespace sae::model {

template <class T>
void InitialiseParameters(std::uint64_t seed, const LatentShard& shard,
                          std::span<const double> b_dec, Parameters<T>* out) {
  std::vector<double> row(static_cast<std::size_t>(out->d));
  const auto narrow = [](double v) { return static_cast<T>(v); };
  for (std::int64_t i = 0; i < shard.count; ++i) {
    UnitDirection(seed, shard.Global(i), row);
    std::transform(row.begin(), row.end(), out->w_dec.begin() + i * out->d, narrow);
  }
  std::copy(out->w_dec.begin(), out->w_dec.end(), out->w_enc.begin());
  std::fill(out->b_enc.begin(), out->b_enc.end(), T(0));
  std::transform(b_dec.begin(), b_dec.end(), out->b_dec.begin(), narrow);
}

template void InitialiseParameters(std::uint64_t, const LatentShard&, std::span<const double>,
                                   Parameters<float>*);
template void InitialiseParameters(std::uint64_t, const LatentShard&, std::span<const double>,
                                   Parameters<double>*);

}  // namespace sae::model
