#include "sae/eval/absorption.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/eval/detection.h"

namespace sae::eval {
namespace {

double Dot(const float* a, const float* b, std::size_t d) {
  double sum = 0;
  for (std::size_t c = 0; c < d; ++c) sum += static_cast<double>(a[c]) * b[c];
  return sum;
}

}  // namespace

AbsorptionAccumulator::AbsorptionAccumulator(std::span<const float> parent,
                                             std::span<const std::int64_t> parent_latents,
                                             const Dictionary& decoder, AbsorptionOptions options)
    : options_(options),
      parent_(parent.begin(), parent.end()),
      own_(static_cast<std::size_t>(decoder.count()), 0) {
  for (const std::int64_t i : parent_latents) own_[static_cast<std::size_t>(i)] = 1;
  for (std::size_t j = 0; j < own_.size(); ++j) {
    const float* row = &decoder.rows[j * parent_.size()];
    const double norm = std::sqrt(Dot(row, row, parent_.size()));
    projection_.push_back(Dot(row, parent_.data(), parent_.size()));
    absorber_.push_back(own_[j] == 0 && projection_[j] >= options_.cosine * norm && norm > 0);
  }
}

void AbsorptionAccumulator::Add(std::span<const float> x, const kernels::Codes<float>& codes,
                                std::span<const std::uint8_t> parent_active,
                                std::span<const std::uint8_t> child_active) {
  const std::size_t d = parent_.size();
  for (std::size_t b = 0; b < static_cast<std::size_t>(codes.tokens); ++b) {
    if (parent_active[b] == 0) continue;
    const double needed = options_.share * Dot(&x[b * d], parent_.data(), d);
    bool recalled = false, carried = false;
    for (auto e = static_cast<std::size_t>(codes.indptr[b]);
         e < static_cast<std::size_t>(codes.indptr[b + 1]); ++e) {
      const auto j = static_cast<std::size_t>(codes.ids[e]);
      if (!(codes.values[e] > 0)) continue;
      recalled = recalled || own_[j] != 0;
      carried = carried || (absorber_[j] != 0 && codes.values[e] * projection_[j] >= needed);
    }
    const int child = child_active[b] != 0 ? 1 : 0;
    ++rows_[child];
    recalled_[child] += recalled ? 1 : 0;
    absorbed_ += !recalled && carried ? 1 : 0;
  }
}

AbsorptionReport AbsorptionAccumulator::Result() const {
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);
  };
  AbsorptionReport r;
  r.active = rows_[0] + rows_[1];
  r.rate = share(absorbed_, r.active);
  r.recall = share(recalled_[0] + recalled_[1], r.active);
  r.recall_without_child = share(recalled_[0], rows_[0]);
  r.recall_with_child = share(recalled_[1], rows_[1]);
  return r;
}

std::vector<std::int64_t> SplitLatents(std::span<const std::uint8_t> fires, std::int64_t latents,
                                       std::span<const std::uint8_t> truth, std::int64_t first,
                                       double jump) {
  const std::size_t rows = truth.size();
  std::vector<std::uint8_t> any(rows, 0);
  // F1 of "one of those taken, or this one".
  const auto with = [&](std::int64_t latent) {
    std::int64_t hits = 0, fired = 0, present = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      const bool on = any[r] != 0 || fires[static_cast<std::size_t>(latent) * rows + r] != 0;
      fired += on ? 1 : 0;
      present += truth[r] != 0 ? 1 : 0;
      hits += on && truth[r] != 0 ? 1 : 0;
    }
    return DetectionOf(hits, fired, present).f1;
  };
  std::vector<double> alone;
  for (std::int64_t i = 0; i < latents; ++i) alone.push_back(with(i));
  std::vector<std::int64_t> order(static_cast<std::size_t>(latents));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return alone[static_cast<std::size_t>(a)] > alone[static_cast<std::size_t>(b)];
  });
  std::vector<std::int64_t> out;
  double f1 = 0;
  const auto take = [&](std::int64_t latent, double score) {
    out.push_back(latent);
    f1 = score;
    for (std::size_t r = 0; r < rows; ++r)
      any[r] |= fires[static_cast<std::size_t>(latent) * rows + r];
  };
  take(first, alone[static_cast<std::size_t>(first)]);
  for (const std::int64_t latent : order) {
    if (latent == first) continue;
    const double score = with(latent);
    if (!(score > f1 + jump)) break;
    take(latent, score);
  }
  return out;
}

}  // namespace sae::eval
