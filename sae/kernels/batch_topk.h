#pragma once
// BatchTopK: the count-th largest of all positive pre-activations of a batch, over all ranks, found
// by radix selection, and the cut of each rank's codes there. Nothing here communicates: a caller
// adds up the histograms of all ranks between the passes.
//   prefix = 0; for each pass: RadixHistogram on every rank -> sum over ranks -> RadixBin ->
//   prefix = prefix << bits | bin, count -= above.   RadixValue(prefix) is the cut; `count` is then
//   how many of the entries equal to it win.
// Values must be positive, not NaN: then their bits order like integers. Reentrant; sizes that
// cannot be right are bugs (SAE_CHECK). Source: Bussmann et al. 2024 (arXiv 2412.06410);
// numerics 3.

#include <cstdint>
#include <type_traits>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/kernels/codes.h"

namespace sae::kernels {

/// float: passes of 11, 11 and 10 bits; double: five of 11 and one of 9.
template <class T>
inline constexpr int kRadixPasses = std::is_same_v<T, float> ? 3 : 6;
template <class T>
constexpr int RadixBits(int pass) {
  return pass < kRadixPasses<T> - 1 ? 11 : 8 * static_cast<int>(sizeof(T)) - 11 * pass;
}
template <class T>
std::int64_t RadixBins(int pass) {
  return std::int64_t{1} << RadixBits<T>(pass);
}

/// Adds to counts[0 .. RadixBins(pass)) the values whose leading bits are `prefix`, the bins chosen
/// in the passes before.
template <class T>
void RadixHistogram(const T* values, std::int64_t size, int pass, std::uint64_t prefix,
                    std::int64_t* counts);

/// The bin that holds the count-th largest value; *above = values in higher bins. Needs
/// 1 <= count <= the sum of counts.
std::int64_t RadixBin(const std::int64_t* counts, std::int64_t bins, std::int64_t count,
                      std::int64_t* above);

/// `prefix` with the bin of one more pass.
template <class T>
std::uint64_t RadixExtend(int pass, std::uint64_t prefix, std::int64_t bin) {
  return prefix << RadixBits<T>(pass) | static_cast<std::uint64_t>(bin);
}

/// The value whose bins in all passes are `prefix`.
template <class T>
T RadixValue(std::uint64_t prefix);

/// Drops from `codes` all entries below `cut`, and the e-th of those equal to it, in CSR order,
/// where keep_tie[e] is 0. keep_tie has an element for each.
template <class T>
void KeepFromCut(Codes<T>* codes, T cut, const std::vector<std::uint8_t>& keep_tie,
                 ThreadPool& pool);

}  // namespace sae::kernels
