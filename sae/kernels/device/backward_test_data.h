#pragma once
// For the tests of the backward kernels: codes and split weights on the host, seeded.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/rows.h"
#include "sae/kernels/device/slots.h"
#include "sae/kernels/split_float.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels::testing {

inline std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Codes and their index by latent. Room for more entries than there are: the rest is garbage.
struct HostCodes {
  Codes<float> codes;
  std::vector<std::int32_t> indptr, ids, rows, index_indptr, index_entries;
  std::vector<float> values;
  std::int64_t capacity = 0;

  std::int64_t nnz() const { return codes.nnz(); }
  device::DeviceCodes view() {
    return {codes.tokens, capacity, indptr.data(), ids.data(), rows.data(), values.data()};
  }
  device::DeviceIndex index() { return {codes.latents, index_indptr.data(), index_entries.data()}; }
};

inline HostCodes FromCodes(const Codes<float>& codes, std::int64_t room = 37) {
  HostCodes out;
  out.codes = codes;
  out.capacity = codes.nnz() + room;
  out.indptr.assign(codes.indptr.begin(), codes.indptr.end());
  out.ids.assign(At(out.capacity), 0x7fffffff);
  out.rows.assign(At(out.capacity), 0x7fffffff);
  out.values.assign(At(out.capacity), NAN);
  std::copy(codes.ids.begin(), codes.ids.end(), out.ids.begin());
  std::copy(codes.values.begin(), codes.values.end(), out.values.begin());
  for (std::int64_t b = 0; b < codes.tokens; ++b) {
    for (std::int64_t e = codes.indptr[At(b)]; e < codes.indptr[At(b) + 1]; ++e)
      out.rows[At(e)] = static_cast<std::int32_t>(b);
  }
  LatentIndex index;
  BuildLatentIndex(codes, &index);
  out.index_indptr.assign(index.indptr.begin(), index.indptr.end());
  out.index_entries.assign(index.entries.begin(), index.entries.end());
  out.index_entries.resize(At(out.capacity), 0x7fffffff);
  return out;
}

/// About `density` of all pairs, with empty tokens and latents (RandomCodes); latents below `hot`
/// fire on every token.
inline HostCodes MakeCodes(std::uint64_t seed, std::int64_t tokens, std::int64_t latents,
                           double density, std::int64_t hot = 0) {
  const Codes<float> base = RandomCodes<float>(seed, tokens, latents, density);
  Codes<float> codes;
  codes.Clear(tokens, latents);
  Random random(seed + 1);
  for (std::int64_t b = 0; b < tokens; ++b) {
    for (std::int64_t i = 0; i < hot; ++i) {
      codes.ids.push_back(static_cast<std::int32_t>(i));
      codes.values.push_back(static_cast<float>(1 - random.Uniform()));
    }
    for (std::int64_t e = base.indptr[At(b)]; e < base.indptr[At(b) + 1]; ++e) {
      if (base.ids[At(e)] < hot) continue;
      codes.ids.push_back(base.ids[At(e)]);
      codes.values.push_back(base.values[At(e)]);
    }
    codes.indptr[At(b) + 1] = static_cast<std::int64_t>(codes.ids.size());
  }
  return FromCodes(codes);
}

/// Per-entry values with garbage behind the last entry.
inline std::vector<float> PerEntry(std::uint64_t seed, const HostCodes& codes, double scale = 1) {
  std::vector<float> out = Normal<float>(seed, codes.capacity, scale);
  std::fill(out.begin() + codes.nnz(), out.end(), NAN);
  return out;
}

/// Split float32 rows.
struct SplitWeights {
  std::vector<float> exact;
  std::vector<std::uint16_t> hi;
  std::vector<std::int16_t> lo;

  explicit SplitWeights(const std::vector<float>& values) : exact(values) {
    for (const float value : values) {
      const SplitFloat split = Split(value);
      hi.push_back(split.hi);
      lo.push_back(split.lo);
    }
  }
  device::WeightRows view(bool joined) const { return {hi.data(), joined ? lo.data() : nullptr}; }
  device::MutableWeightRows mutable_view() { return {hi.data(), lo.data()}; }
  float value(std::int64_t at, bool joined) const {
    return joined ? exact[At(at)] : Bf16ToFloat(hi[At(at)]);
  }
  std::vector<float> Joined() const {
    std::vector<float> out(hi.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = Join(hi[i], lo[i]);
    return out;
  }
};

/// |a - b| <= tolerance max(1, |b|) everywhere; NaN where NaN.
template <class A, class B>
void ExpectNear(const std::vector<A>& actual, const std::vector<B>& expected, double tolerance,
                const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const auto a = static_cast<double>(actual[i]);
    const auto b = static_cast<double>(expected[i]);
    if (std::isnan(a) && std::isnan(b)) continue;
    ASSERT_NEAR(a, b, tolerance * std::max(1.0, std::abs(b))) << what << " " << i;
  }
}
/// Bits.
template <class T>
void ExpectSame(const std::vector<T>& actual, const std::vector<T>& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::memcmp(&actual[i], &expected[i], sizeof(T)), 0)
        << what << " " << i << ": " << actual[i] << " instead of " << expected[i];
  }
}

}  // namespace sae::kernels::testing
