#include "sae/model/metrics.h"

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"

namespace sae::model {

ReconstructionAccumulator::ReconstructionAccumulator(std::span<const double> centre)
    : centre_(centre.begin(), centre.end()),
      sum_(centre.size(), 0.0),
      error_sum_(centre.size(), 0.0) {}

template <class T>
void ReconstructionAccumulator::Add(std::span<const T> x, std::span<const T> x_hat) {
  const std::size_t d = centre_.size();
  SAE_CHECK(d > 0 && x.size() == x_hat.size() && x.size() % d == 0);
  for (std::size_t begin = 0; begin < x.size(); begin += d) {
    double error = 0, squares = 0, hat_squares = 0, products = 0, xx = 0, hh = 0, xh = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const double a = x[begin + j];
      const double h = x_hat[begin + j];
      const double e = a - h;
      const double ac = a - centre_[j];
      const double hc = h - centre_[j];
      error += e * e;
      squares += ac * ac;
      hat_squares += hc * hc;
      products += ac * hc;
      xx += a * a;
      hh += h * h;
      xh += a * h;
      sum_[j] += ac;
      error_sum_[j] += e;
    }
    error_ += error;
    squares_ += squares;
    hat_squares_ += hat_squares;
    products_ += products;
    if (xx > 0 && hh > 0) cosine_ += xh / std::sqrt(xx * hh);
    if (xx > 0) ratio_ += std::sqrt(hh / xx);
    ++rows_;
  }
}

template void ReconstructionAccumulator::Add(std::span<const float>, std::span<const float>);
template void ReconstructionAccumulator::Add(std::span<const double>, std::span<const double>);

void ReconstructionAccumulator::Merge(const ReconstructionAccumulator& other) {
  SAE_CHECK(centre_ == other.centre_);
  rows_ += other.rows_;
  error_ += other.error_;
  squares_ += other.squares_;
  hat_squares_ += other.hat_squares_;
  products_ += other.products_;
  cosine_ += other.cosine_;
  ratio_ += other.ratio_;
  for (std::size_t j = 0; j < sum_.size(); ++j) {
    sum_[j] += other.sum_[j];
    error_sum_[j] += other.error_sum_[j];
  }
}

std::vector<double> ReconstructionAccumulator::Sums() const {
  std::vector<double> out = {static_cast<double>(rows_), error_,  squares_, hat_squares_,
                             products_,                  cosine_, ratio_};
  out.insert(out.end(), sum_.begin(), sum_.end());
  out.insert(out.end(), error_sum_.begin(), error_sum_.end());
  return out;
}

void ReconstructionAccumulator::SetSums(std::span<const double> sums) {
  constexpr std::size_t kScalars = 7;
  SAE_CHECK(sums.size() == kScalars + 2 * sum_.size());
  rows_ = static_cast<std::int64_t>(sums[0]);
  error_ = sums[1];
  squares_ = sums[2];
  hat_squares_ = sums[3];
  products_ = sums[4];
  cosine_ = sums[5];
  ratio_ = sums[6];
  std::copy_n(sums.begin() + kScalars, sum_.size(), sum_.begin());
  std::copy_n(sums.begin() + kScalars + sum_.size(), sum_.size(), error_sum_.begin());
}

ReconstructionMetrics ReconstructionAccumulator::Result() const {
  const auto rows = static_cast<double>(rows_);
  double shift = 0;
  double residual_shift = 0;
  for (std::size_t j = 0; j < sum_.size(); ++j) {
    shift += sum_[j] * sum_[j] / rows;
    residual_shift += error_sum_[j] * error_sum_[j] / rows;
  }
  const double total = squares_ - shift;
  ReconstructionMetrics m;
  m.rows = rows_;
  m.squared_error = error_ / rows;
  m.mean_squared_error = m.squared_error / static_cast<double>(centre_.size());
  m.fvu = error_ / total;
  m.explained_variance = 1 - m.fvu;
  m.explained_variance_centred = 1 - (error_ - residual_shift) / total;
  m.gamma = hat_squares_ / products_;
  m.cosine = cosine_ / rows;
  m.l2_ratio = ratio_ / rows;
  return m;
}

std::vector<std::int64_t> DensityHistogram(std::span<const std::int64_t> fires, std::int64_t tokens,
                                           double width) {
  const auto bins = static_cast<std::int64_t>(std::ceil(10 / width - 1e-9));
  std::vector<std::int64_t> counts(static_cast<std::size_t>(bins), 0);
  for (const std::int64_t f : fires) {
    const double log_frequency =
        std::log10(static_cast<double>(f) / static_cast<double>(tokens) + 1e-10);
    const auto bin = static_cast<std::int64_t>(std::floor((log_frequency + 10) / width));
    ++counts[static_cast<std::size_t>(std::clamp<std::int64_t>(bin, 0, bins - 1))];
  }
  return counts;
}

double DeadFraction(std::span<const std::int64_t> fires) {
  const auto dead = std::count(fires.begin(), fires.end(), 0);
  return static_cast<double>(dead) / static_cast<double>(fires.size());
}

double LossRecovered(double clean, double spliced, double ablated) {
  return (ablated - spliced) / (ablated - clean);
}

}  // namespace sae::model
