#include "sae/model/init.h"

#include <algorithm>
#include <cmath>

#include "sae/base/random.h"

namespace sae::model {
namespace {

absl::Status CheckFinite(std::span<const float> sample, std::int64_t d) {
  for (std::size_t i = 0; i < sample.size(); ++i) {
    if (std::isfinite(sample[i])) continue;
    const auto row = static_cast<std::int64_t>(i) / d;
    return absl::InvalidArgumentError(
        absl::StrCat("initial sample: row ", row, " column ", static_cast<std::int64_t>(i) % d,
                     " is ", sample[i], ": drop such rows when the store is made"));
  }
  return absl::OkStatus();
}

double SquaredDistance(const double* a, const double* b, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = 0; j < d; ++j) sum += (a[j] - b[j]) * (a[j] - b[j]);
  return sum;
}

std::vector<double> Mean(std::span<const double> rows, std::int64_t d) {
  std::vector<double> mean(static_cast<std::size_t>(d), 0.0);
  const auto count = static_cast<std::int64_t>(rows.size()) / d;
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t j = 0; j < d; ++j)
      mean[static_cast<std::size_t>(j)] += rows[static_cast<std::size_t>(r * d + j)];
  }
  for (double& m : mean) m /= static_cast<double>(count);
  return mean;
}

}  // namespace

std::vector<double> GeometricMedian(std::span<const double> rows, std::int64_t d) {
  constexpr int kRounds = 100;
  constexpr double kTolerance = 1e-5;
  constexpr double kFloor = 1e-8;
  const auto count = static_cast<std::int64_t>(rows.size()) / d;
  std::vector<double> median = Mean(rows, d);
  std::vector<double> next(median.size());
  for (int round = 0; round < kRounds; ++round) {
    std::fill(next.begin(), next.end(), 0.0);
    double total = 0;
    for (std::int64_t r = 0; r < count; ++r) {
      const double* x = rows.data() + r * d;
      const double w = 1 / std::max(std::sqrt(SquaredDistance(x, median.data(), d)), kFloor);
      total += w;
      for (std::int64_t j = 0; j < d; ++j) next[static_cast<std::size_t>(j)] += w * x[j];
    }
    for (double& v : next) v /= total;
    const double moved = std::sqrt(SquaredDistance(next.data(), median.data(), d));
    median.swap(next);
    if (moved < kTolerance) break;
  }
  return median;
}

absl::StatusOr<SampleStatistics> MeasureSample(std::span<const float> sample, std::int64_t d) {
  const auto size = static_cast<std::int64_t>(sample.size());
  if (d < 1 || size < d || size % d != 0) {
    return absl::InvalidArgumentError(absl::StrCat("initial sample: ", size,
                                                   " values are not rows of width ", d,
                                                   ": give at least one whole row"));
  }
  SAE_RETURN_IF_ERROR(CheckFinite(sample, d));
  const std::int64_t rows = size / d;
  double squares = 0;
  for (const float v : sample) squares += static_cast<double>(v) * v;
  if (!(squares > 0))
    return absl::InvalidArgumentError("initial sample: all values are 0: check the store");
  SampleStatistics out;
  out.input_scale = std::sqrt(squares / static_cast<double>(rows));
  std::vector<double> scaled(sample.size());
  for (std::size_t i = 0; i < sample.size(); ++i) scaled[i] = sample[i] / out.input_scale;
  const std::vector<double> mean = Mean(scaled, d);
  for (std::int64_t r = 0; r < rows; ++r)
    out.variance += SquaredDistance(&scaled[static_cast<std::size_t>(r * d)], mean.data(), d);
  out.variance /= static_cast<double>(rows);
  scaled.resize(static_cast<std::size_t>(std::min(rows, kMedianRows) * d));
  out.bias = GeometricMedian(scaled, d);
  return out;
}

void UnitDirection(std::uint64_t seed, std::int64_t latent, std::span<double> out) {
  Random random(HashCounter(seed, static_cast<std::uint64_t>(latent)));
  double norm = 0;
  for (double& v : out) {
    v = random.Normal();
    norm += v * v;
  }
  norm = std::sqrt(norm);
  for (double& v : out) v /= norm;
}

double RoundedScale(double value) {
  if (!(value > 0) || !std::isfinite(value)) return value;
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 12)), exponent - 12);
}

}  // namespace sae::model
