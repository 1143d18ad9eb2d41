#include "sae/model/init.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sae/base/check.h"
#include "sae/base/random.h"

namespace sae::model {
namespace {

constexpr double kNormEpsilon = 1e-5;

absl::Status CheckFinite(const char* what, std::span<const float> sample, std::int64_t d) {
  for (std::size_t i = 0; i < sample.size(); ++i) {
    if (std::isfinite(sample[i])) continue;
    const auto row = static_cast<std::int64_t>(i) / d;
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": row ", row, " column ", static_cast<std::int64_t>(i) % d, " is ",
                     sample[i], ": drop such rows when the store is made"));
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

namespace {

// S of the sample, whose sizes and values are checked.
double ScaleOf(InputScale kind, std::span<const float> sample, std::int64_t d) {
  const std::int64_t rows = static_cast<std::int64_t>(sample.size()) / d;
  double squares = 0, norms = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    double row = 0;
    for (const float v :
         sample.subspan(static_cast<std::size_t>(r * d), static_cast<std::size_t>(d)))
      row += static_cast<double>(v) * v;
    squares += row;
    norms += std::sqrt(row);
  }
  if (kind == InputScale::kRms) return std::sqrt(squares / static_cast<double>(rows));
  if (kind == InputScale::kMeanNorm)
    return norms / static_cast<double>(rows) / std::sqrt(static_cast<double>(d));
  return 1;
}

// Rows in the units that the SAE sees.
std::vector<double> Scaled(std::span<const float> rows, std::int64_t d, double scale,
                           bool layer_norm) {
  std::vector<double> out(rows.begin(), rows.end());
  for (double& v : out) v /= scale;
  const auto width = static_cast<std::size_t>(d);
  for (std::size_t at = 0; layer_norm && at < out.size(); at += width) {
    const std::span<double> row = std::span(out).subspan(at, width);
    NormaliseRow<double>(row, row);
  }
  return out;
}

double VarianceOf(const std::vector<double>& rows, std::int64_t d) {
  const std::vector<double> mean = Mean(rows, d);
  double sum = 0;
  for (std::size_t at = 0; at < rows.size(); at += mean.size())
    sum += SquaredDistance(&rows[at], mean.data(), d);
  return sum * static_cast<double>(d) / static_cast<double>(rows.size());
}

absl::Status CheckSample(std::span<const float> sample, std::int64_t d,
                         const SampleOptions& options) {
  const auto size = static_cast<std::int64_t>(sample.size());
  if (d < 1 || size < d || size % d != 0) {
    return absl::InvalidArgumentError(absl::StrCat("initial sample: ", size,
                                                   " values are not rows of width ", d,
                                                   ": give at least one whole row"));
  }
  SAE_RETURN_IF_ERROR(CheckFinite("initial sample", sample, d));
  if (std::all_of(sample.begin(), sample.end(), [](float v) { return v == 0; }))
    return absl::InvalidArgumentError("initial sample: all values are 0: check the store");
  const auto targets = static_cast<std::int64_t>(options.targets.size());
  if (targets == 0) return absl::OkStatus();
  if (options.d_out < 1 || targets != size / d * options.d_out) {
    return absl::InvalidArgumentError(
        absl::StrCat("initial targets: ", targets, " values for ", size / d, " rows of width ",
                     options.d_out, ": give one row of targets for each row of the sample"));
  }
  if (options.input_scale == InputScale::kLayerNorm) {
    return absl::InvalidArgumentError(
        "initial targets: layer_norm has no scale for another space: use rms, mean_norm or none");
  }
  return CheckFinite("initial targets", options.targets, options.d_out);
}

}  // namespace

absl::StatusOr<SampleStatistics> MeasureSample(std::span<const float> sample, std::int64_t d,
                                               const SampleOptions& options) {
  SAE_RETURN_IF_ERROR(CheckSample(sample, d, options));
  SampleStatistics out;
  out.input_scale = ScaleOf(options.input_scale, sample, d);
  if (!options.targets.empty()) {
    const std::vector<double> y = Scaled(options.targets, options.d_out, out.input_scale, false);
    out.variance = VarianceOf(y, options.d_out);
    out.bias = Mean(y, options.d_out);
    return out;
  }
  const bool layer_norm = options.input_scale == InputScale::kLayerNorm;
  std::vector<double> x = Scaled(sample, d, out.input_scale, layer_norm);
  out.variance = VarianceOf(x, d);
  const auto most = static_cast<std::size_t>(kMedianRows * d);
  x.resize(std::min(x.size(), most));
  out.bias = GeometricMedian(x, d);
  return out;
}

template <class T>
RowNorm NormaliseRow(std::span<const T> row, std::span<T> out) {
  const auto d = static_cast<double>(row.size());
  RowNorm norm;
  for (const T v : row) norm.mean += static_cast<double>(v) / d;
  for (const T v : row) {
    const double c = static_cast<double>(v) - norm.mean;
    norm.deviation += c * c;
  }
  norm.deviation = d > 1 ? std::sqrt(norm.deviation / (d - 1)) : 0;
  for (std::size_t j = 0; j < row.size(); ++j)
    out[j] =
        static_cast<T>((static_cast<double>(row[j]) - norm.mean) / (norm.deviation + kNormEpsilon));
  return norm;
}

template RowNorm NormaliseRow(std::span<const float>, std::span<float>);
template RowNorm NormaliseRow(std::span<const double>, std::span<double>);

template <class T>
ThresholdSample ThresholdQuantiles(std::span<const T> z, std::int64_t count, double share) {
  SAE_CHECK(count > 0 && !z.empty() && static_cast<std::int64_t>(z.size()) % count == 0);
  SAE_CHECK_MSG(share >= 0 && share <= 1, "share is %g", share);
  const auto width = static_cast<std::size_t>(count);
  const std::size_t tokens = z.size() / width;
  const auto above = static_cast<std::size_t>(std::llround(share * static_cast<double>(tokens)));
  ThresholdSample out;
  std::vector<double> column(tokens);
  for (std::size_t i = 0; i < width; ++i) {
    double mean = 0, squares = 0;
    for (std::size_t t = 0; t < tokens; ++t) {
      column[t] = static_cast<double>(z[t * width + i]);
      mean += column[t] / static_cast<double>(tokens);
    }
    for (const double v : column) squares += (v - mean) * (v - mean);
    out.deviation.push_back(std::sqrt(squares / static_cast<double>(tokens)));
    // The `above` largest come first; `next` is the largest of the others.
    const auto cut = column.begin() + static_cast<std::ptrdiff_t>(above);
    if (cut != column.end()) std::nth_element(column.begin(), cut, column.end(), std::greater<>());
    const double least = above > 0 ? *std::min_element(column.begin(), cut) : *cut;
    out.threshold.push_back(cut == column.end() ? least : (least + *cut) / 2);
  }
  return out;
}

template ThresholdSample ThresholdQuantiles(std::span<const float>, std::int64_t, double);
template ThresholdSample ThresholdQuantiles(std::span<const double>, std::int64_t, double);

double BandwidthOf(std::vector<double> deviations) {
  SAE_CHECK(!deviations.empty());
  const std::size_t half = deviations.size() / 2;
  const auto middle = deviations.begin() + static_cast<std::ptrdiff_t>(half);
  std::nth_element(deviations.begin(), middle, deviations.end());
  double median = *middle;
  if (deviations.size() % 2 == 0)
    median = (median + *std::max_element(deviations.begin(), middle)) / 2;
  return 0.1 * median;
}

void FloorThresholds(double bandwidth, std::vector<double>* thresholds) {
  for (double& theta : *thresholds) theta = std::max(theta, bandwidth);
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
