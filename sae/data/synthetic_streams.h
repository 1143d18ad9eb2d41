#pragma once
// Streams of random numbers of synthetic data, told apart by what they draw: HashCounter(seed,
// counter, stream).

#include <cstdint>

namespace sae::data {

enum SyntheticStream : std::uint64_t {
  kDictionaryStream = 1,
  kBiasStream = 2,
  kRowStream = 3,
  kLoadingStream = 4,
  kSpreadStream = 5,
};

}  // namespace sae::data
