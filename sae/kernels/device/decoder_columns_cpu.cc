#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "sae/kernels/device/decoder_columns.h"
#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels::plain {

using device::kColumnBlocks;

void SplitColumns(const device::SplitColumnsParams& p) {
  for (std::int64_t c = 0; c < p.blocks; ++c) {
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      std::copy_n(p.in + t * p.d + p.first + c * p.width, p.width,
                  p.out + (c * p.tokens + t) * p.width);
    }
  }
}

void PackWinners(const device::PackWinnersParams& p) {
  const std::int64_t tokens = p.codes.tokens;
  const std::int64_t entries = std::min<std::int64_t>(p.codes.indptr[tokens], p.capacity);
  if (p.codes.indptr[tokens] > p.capacity) *p.overflow = 1;
  for (std::int64_t t = 0; t <= tokens; ++t)
    p.out[t] = std::min(p.codes.indptr[t], static_cast<std::int32_t>(p.capacity));
  std::int32_t* const ids = p.out + tokens + 1;
  for (std::int64_t e = 0; e < entries; ++e) ids[e] = p.global_ids[p.codes.ids[e]];
  if (entries > 0)
    std::memcpy(ids + p.capacity, p.f, static_cast<std::size_t>(entries) * sizeof(float));
}

void MergeWinners(const device::MergeWinnersParams& p) {
  const std::int64_t tokens = p.out.tokens, words = device::WinnerWords(tokens, p.capacity);
  std::int64_t at = 0;
  p.out.indptr[0] = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    std::vector<std::pair<std::int32_t, std::int64_t>> found;  // id, place of rank's entry
    for (int r = 0; r < p.ranks; ++r) {
      const std::int32_t* const indptr = p.all + r * words;
      for (std::int64_t e = indptr[t]; e < indptr[t + 1]; ++e)
        found.emplace_back(indptr[tokens + 1 + e], r * p.capacity + e);
    }
    std::sort(found.begin(), found.end());
    for (const auto& [id, from] : found) {
      const bool fits = at < p.out.capacity;
      p.place[from] = fits ? static_cast<std::int32_t>(at) : -1;
      if (!fits) {
        *p.overflow = 1;
        continue;
      }
      const std::int32_t* const values =
          p.all + from / p.capacity * words + tokens + 1 + p.capacity;
      p.out.ids[at] = id;
      p.out.rows[at] = static_cast<std::int32_t>(t);
      std::memcpy(p.out.values + at, values + from % p.capacity, sizeof(float));
      ++at;
    }
    p.out.indptr[t + 1] = static_cast<std::int32_t>(at);
  }
}

void PlaceValues(const device::PlaceValuesParams& p) {
  const std::int64_t words = device::WinnerWords(p.tokens, p.capacity);
  for (std::int64_t r = 0; r < p.ranks; ++r) {
    const std::int64_t entries = p.winners[r * words + p.tokens];
    for (std::int64_t at = r * p.capacity; at < r * p.capacity + entries; ++at) {
      if (p.place[at] >= 0) p.out[p.place[at]] = p.all[at];
    }
  }
}

void AddParts(const device::AddPartsParams& p) {
  const auto sum_of = [&](std::int64_t e) {
    float sum = p.parts[e];
    for (std::int64_t c = 1; c < kColumnBlocks; ++c) sum += p.parts[c * p.stride + e];
    return sum;
  };
  for (std::int64_t e = 0; p.u != nullptr && e < *p.entries; ++e) p.u[e] = sum_of(e);
  for (std::int64_t e = 0; p.own_u != nullptr && e < *p.own_entries && e < p.own_capacity; ++e)
    p.own_u[e] = p.own_place[e] < 0 ? 0.0F : sum_of(p.own_place[e]);
}

void Along(const device::AlongParams& p) {
  for (std::int64_t i = 0; i < p.latents; ++i) {
    double sum = 0;
    for (int t = 0; t < p.terms_count && p.unit; ++t) {
      const device::AlongTerm& term = p.terms[t];
      for (std::int64_t q = term.index.indptr[i];
           IsOn(term.enabled) && q < term.index.indptr[i + 1]; ++q) {
        const std::int32_t e = term.index.entries[q];
        sum += static_cast<double>(term.f[e]) * static_cast<double>(term.u[e]);
      }
    }
    p.along[i] = 0;
    if (!(p.norm2[i] > 0)) continue;
    p.along[i] = static_cast<float>(p.unit ? -sum / p.norm2[i]
                                           : static_cast<double>(p.norm_gradient[p.where[i]]) /
                                                 std::sqrt(p.norm2[i]));
  }
}

void SumNormParts(const device::SumNormPartsParams& p) {
  for (std::int64_t i = 0; i < p.count; ++i) {
    double sum = 0;
    bool rests = true;
    for (std::int64_t c = 0; c < kColumnBlocks; ++c) {
      sum += static_cast<double>(std::abs(p.parts[c * p.count + i]));
      rests = rests && std::signbit(p.parts[c * p.count + i]);
    }
    p.sums[i] = rests ? -sum : sum;
  }
}

void FinishColumns(const device::FinishColumnsParams& p) {
  for (std::int64_t i = 0; i < p.latents && IsOn(p.go); ++i) {
    p.norm2[i] = std::abs(p.sums[i]);
    if (!p.unit || std::signbit(p.sums[i])) continue;
    const auto factor = static_cast<float>(InverseNorm(p.norm2[i]));
    if (factor == 1.0F) continue;
    p.norm2[i] *= static_cast<double>(factor) * static_cast<double>(factor);
    for (std::int64_t c = 0; c < p.blocks; ++c) {
      for (std::int64_t j = 0; j < p.width; ++j) {
        const std::int64_t at = (c * p.latents + i) * p.width + j;
        SetWeight(p.w, at, factor * Weight(Read(p.w), at));
      }
    }
  }
}

void ShardNorms(const device::ShardNormsParams& p) {
  for (std::int64_t i = 0; i < p.count; ++i)
    p.norms[i] = static_cast<float>(std::sqrt(p.norm2[p.global_ids[i]]));
}

}  // namespace sae::kernels::plain
