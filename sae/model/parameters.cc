#include "sae/model/parameters.h"

#include <algorithm>

#include "sae/model/init.h"

namespace sae::model {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class T>
void Narrow(const std::vector<double>& from, typename Parameters<T>::Vector& to, std::int64_t at) {
  std::transform(from.begin(), from.end(), to.begin() + at,
                 [](double v) { return static_cast<T>(v); });
}

}  // namespace

ParameterShape ShapeOf(const Options& options, const LatentShard& shard, std::int64_t d,
                       std::int64_t d_out) {
  ParameterShape shape{shard.count, d, d_out};
  shape.gated = options.architecture == Architecture::kGated;
  shape.threshold = options.architecture == Architecture::kJumpRelu;
  shape.skip = options.skip;
  return shape;
}

template <class T>
Parameters<T>::Parameters(const ParameterShape& s)
    : count(s.count),
      d(s.d),
      d_out(s.d_out),
      w_enc(Size(s.matrices ? s.count * s.d : 0)),
      w_dec(Size(s.matrices ? s.count * s.d_out : 0)),
      b_enc(Size(s.count)),
      b_dec(Size(s.d_out)),
      b_mag(Size(s.gated ? s.count : 0)),
      r_mag(Size(s.gated ? s.count : 0)),
      threshold(Size(s.threshold ? s.count : 0)),
      w_skip(Size(s.skip ? s.d_out * s.d : 0)) {}

template <class T>
std::vector<typename Parameters<T>::Named> Parameters<T>::All(bool log_threshold) {
  std::vector<Named> all = {{"W_enc", &w_enc, {count, d}, true},
                            {"W_dec", &w_dec, {count, d_out}, true},
                            {"b_enc", &b_enc, {count}, true},
                            {"b_dec", &b_dec, {d_out}, false},
                            {"b_mag", &b_mag, {count}, true},
                            {"r_mag", &r_mag, {count}, true},
                            {log_threshold ? "log_threshold" : "threshold", &threshold, {count}, true},
                            {"W_skip", &w_skip, {d_out, d}, false}};
  std::erase_if(all, [](const Named& n) { return n.values->empty(); });
  return all;
}

template <class T>
void InitialiseParameters(std::uint64_t seed, const LatentShard& shard,
                          std::span<const double> b_dec, bool transposed, Parameters<T>* out) {
  // The encoder of a transcoder lives in another space than its decoder: directions of its own.
  constexpr std::uint64_t kEncoderStream = 0x9E3779B97F4A7C15;
  std::vector<double> enc(Size(out->d)), dec(Size(out->d_out));
  for (std::int64_t i = 0; i < shard.count; ++i) {
    UnitDirection(seed, shard.Global(i), dec);
    Narrow<T>(dec, out->w_dec, i * out->d_out);
    if (!transposed) UnitDirection(seed ^ kEncoderStream, shard.Global(i), enc);
    Narrow<T>(transposed ? dec : enc, out->w_enc, i * out->d);
  }
  for (auto* zero : {&out->b_enc, &out->b_mag, &out->r_mag, &out->w_skip})
    std::fill(zero->begin(), zero->end(), T(0));
  Narrow<T>(std::vector<double>(b_dec.begin(), b_dec.end()), out->b_dec, 0);
}

#define SAE_INSTANTIATE(T)                                                            \
  template struct Parameters<T>;                                                      \
  template void InitialiseParameters(std::uint64_t, const LatentShard&,               \
                                     std::span<const double>, bool, Parameters<T>*)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::model
