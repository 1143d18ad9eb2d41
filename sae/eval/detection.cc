#include "sae/eval/detection.h"

#include <utility>

namespace sae::eval {

Detection DetectionOf(std::int64_t hits, std::int64_t fired, std::int64_t present) {
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  };
  return {share(hits, fired), share(hits, present), share(2 * hits, fired + present)};
}

DetectionAccumulator::DetectionAccumulator(std::vector<std::int64_t> partner, std::int64_t features)
    : partner_(std::move(partner)),
      hits_(partner_.size()),
      fired_(partner_.size()),
      present_(static_cast<std::size_t>(features)) {}

void DetectionAccumulator::Add(const kernels::Codes<float>& codes, std::span<const float> truth) {
  const std::size_t features = present_.size();
  for (std::size_t b = 0; b < static_cast<std::size_t>(codes.tokens); ++b) {
    const std::span<const float> row = truth.subspan(b * features, features);
    for (std::size_t i = 0; i < features; ++i) present_[i] += row[i] > 0 ? 1 : 0;
    for (auto e = static_cast<std::size_t>(codes.indptr[b]);
         e < static_cast<std::size_t>(codes.indptr[b + 1]); ++e) {
      if (!(codes.values[e] > 0)) continue;
      const auto latent = static_cast<std::size_t>(codes.ids[e]);
      const std::int64_t feature = partner_[latent];
      ++fired_[latent];
      hits_[latent] += feature >= 0 && row[static_cast<std::size_t>(feature)] > 0 ? 1 : 0;
    }
  }
  rows_ += codes.tokens;
}

std::vector<Detection> DetectionAccumulator::PerLatent() const {
  std::vector<Detection> out;
  for (std::size_t i = 0; i < partner_.size(); ++i) {
    const std::int64_t present =
        partner_[i] < 0 ? 0 : present_[static_cast<std::size_t>(partner_[i])];
    out.push_back(DetectionOf(hits_[i], fired_[i], present));
  }
  return out;
}

Detection DetectionAccumulator::Mean() const {
  Detection mean;
  const std::vector<Detection> all = PerLatent();
  const auto n = static_cast<double>(all.size());
  for (const Detection& d : all) {
    mean.precision += d.precision / n;
    mean.recall += d.recall / n;
    mean.f1 += d.f1 / n;
  }
  return mean;
}

}  // namespace sae::eval
