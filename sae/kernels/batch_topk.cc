#include "sae/kernels/batch_topk.h"

#include <algorithm>
#include <array>
#include <bit>

#include "sae/base/check.h"

namespace sae::kernels {
namespace {

template <class T>
using Bits = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, std::uint64_t>;

/// Bits of the value below those of this pass.
template <class T>
int Shift(int pass) {
  int shift = 8 * static_cast<int>(sizeof(T));
  for (int p = 0; p <= pass; ++p) shift -= RadixBits<T>(p);
  return shift;
}

// Tokens are cut into a fixed number of parts, compacted each in its place and then moved together.
constexpr std::int64_t kParts = 16;

struct Part {
  std::int64_t begin = 0, end = 0;  ///< tokens
  std::int64_t first = 0;           ///< entry
  std::int64_t ties = 0;            ///< before this part
  std::int64_t kept = 0;
};

template <class T>
void CompactPart(Codes<T>* codes, T cut, const std::vector<std::uint8_t>& keep_tie, Part* part) {
  std::int64_t* indptr = codes->indptr.data();
  std::int32_t* ids = codes->ids.data();
  T* values = codes->values.data();
  std::int64_t from = part->first;
  std::int64_t to = part->first;
  auto tie = static_cast<std::size_t>(part->ties);
  for (std::int64_t token = part->begin; token < part->end; ++token) {
    for (const std::int64_t end = indptr[token + 1]; from < end; ++from) {
      const T value = values[from];
      const bool keep = value == cut ? keep_tie[tie++] != 0 : value > cut;
      ids[to] = ids[from];
      values[to] = value;
      to += keep ? 1 : 0;
    }
    indptr[token + 1] = to - part->first;  // of the part, until it is moved
  }
  part->kept = to - part->first;
}

}  // namespace

template <class T>
void RadixHistogram(const T* values, std::int64_t size, int pass, std::uint64_t prefix,
                    std::int64_t* counts) {
  SAE_CHECK_MSG(pass >= 0 && pass < kRadixPasses<T>, "pass %d", pass);
  const int shift = Shift<T>(pass);
  const int bits = RadixBits<T>(pass);
  const auto mask = static_cast<Bits<T>>(RadixBins<T>(pass) - 1);
  for (std::int64_t e = 0; e < size; ++e) {
    const Bits<T> value = std::bit_cast<Bits<T>>(values[e]) >> shift;
    if (pass > 0 && std::uint64_t{value} >> bits != prefix) continue;
    ++counts[value & mask];
  }
}

std::int64_t RadixBin(const std::int64_t* counts, std::int64_t bins, std::int64_t count,
                      std::int64_t* above) {
  *above = 0;
  for (std::int64_t bin = bins - 1; bin >= 0; --bin) {
    if (*above + counts[bin] >= count) return bin;
    *above += counts[bin];
  }
  SAE_CHECK_MSG(false, "the %ldth of %ld values", static_cast<long>(count),
                static_cast<long>(*above));
  return 0;
}

template <class T>
T RadixValue(std::uint64_t prefix) {
  return std::bit_cast<T>(static_cast<Bits<T>>(prefix));
}

template <class T>
void KeepFromCut(Codes<T>* codes, T cut, const std::vector<std::uint8_t>& keep_tie,
                 ThreadPool& pool) {
  std::array<Part, kParts> parts;
  pool.ParallelFor(kParts, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      Part& part = parts[static_cast<std::size_t>(p)];
      part.begin = codes->tokens * p / kParts;
      part.end = codes->tokens * (p + 1) / kParts;
      part.first = codes->indptr[static_cast<std::size_t>(part.begin)];
      const T* values = codes->values.data();
      part.ties = std::count(values + part.first,
                             values + codes->indptr[static_cast<std::size_t>(part.end)], cut);
    }
  });
  std::int64_t ties = 0;
  for (Part& part : parts) {
    const std::int64_t before = ties;
    ties += part.ties;
    part.ties = before;
  }
  SAE_CHECK_MSG(ties == static_cast<std::int64_t>(keep_tie.size()), "%ld ties, a mask of %zu",
                static_cast<long>(ties), keep_tie.size());
  pool.ParallelFor(kParts, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p)
      CompactPart(codes, cut, keep_tie, &parts[static_cast<std::size_t>(p)]);
  });
  std::int64_t to = 0;
  for (const Part& part : parts) {
    std::copy_n(codes->ids.data() + part.first, part.kept, codes->ids.data() + to);
    std::copy_n(codes->values.data() + part.first, part.kept, codes->values.data() + to);
    for (std::int64_t token = part.begin; token < part.end; ++token)
      codes->indptr[static_cast<std::size_t>(token) + 1] += to;
    to += part.kept;
  }
  codes->ids.resize(static_cast<std::size_t>(to));
  codes->values.resize(static_cast<std::size_t>(to));
}

template void RadixHistogram(const float*, std::int64_t, int, std::uint64_t, std::int64_t*);
template void RadixHistogram(const double*, std::int64_t, int, std::uint64_t, std::int64_t*);
template float RadixValue(std::uint64_t);
template double RadixValue(std::uint64_t);
template void KeepFromCut(Codes<float>*, float, const std::vector<std::uint8_t>&, ThreadPool&);
template void KeepFromCut(Codes<double>*, double, const std::vector<std::uint8_t>&, ThreadPool&);

}  // namespace sae::kernels
