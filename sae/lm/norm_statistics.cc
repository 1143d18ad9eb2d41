#include "sae/lm/norm_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace sae::lm {
namespace {

const double kLogWidth = std::log(1.01);

int BinOf(double norm) {
  return norm > 0 ? static_cast<int>(std::floor(std::log(norm) / kLogWidth))
                  : std::numeric_limits<int>::min();
}

/// The middle of a bin.
double ValueOf(int bin) {
  return bin == std::numeric_limits<int>::min() ? 0 : std::exp((bin + 0.5) * kLogWidth);
}

}  // namespace

absl::StatusOr<NormLimit> ParseNormLimit(const std::string& text) {
  char* end = nullptr;
  NormLimit limit;
  limit.value = std::strtod(text.c_str(), &end);
  const std::string rest = end;
  limit.of_median = rest == "x";
  if (end == text.c_str() || !(rest.empty() || limit.of_median) || !(limit.value > 0) ||
      !std::isfinite(limit.value) || (limit.of_median && limit.value <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "norm limit \"", text,
        "\": give a multiple of the median above 1, as in 10x, or a norm above 0, as in 300"));
  }
  return limit;
}

double RowNorm(const float* row, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = 0; j < d; ++j) sum += double{row[j]} * row[j];
  return std::sqrt(sum);
}

void NormStatistics::Add(double norm) {
  Bin& bin = bins_[BinOf(norm)];
  ++bin.count;
  bin.squares += norm * norm;
  squares_ += norm * norm;
  smallest_ = count_ == 0 ? norm : std::min(smallest_, norm);
  largest_ = std::max(largest_, norm);
  ++count_;
}

double NormStatistics::Quantile(double q) const {
  if (count_ == 0) return 0;
  if (q >= 1) return largest_;
  const double target = q * static_cast<double>(count_);
  double seen = 0;
  for (const auto& [number, bin] : bins_) {
    seen += static_cast<double>(bin.count);
    if (seen >= target) return std::clamp(ValueOf(number), smallest_, largest_);
  }
  return largest_;
}

double NormStatistics::TopShare(double fraction) const {
  if (squares_ <= 0) return 0;
  double left = fraction * static_cast<double>(count_);
  double sum = 0;
  for (auto it = bins_.rbegin(); it != bins_.rend() && left > 0; ++it) {
    const Bin& bin = it->second;
    const double taken = std::min(left, static_cast<double>(bin.count));
    sum += bin.squares * taken / static_cast<double>(bin.count);
    left -= taken;
  }
  return sum / squares_;
}

}  // namespace sae::lm
