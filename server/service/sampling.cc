#include "server/service/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace sae::server {
namespace {
using Request = saeloom::v1::QueryMetricsRequest;

void Append(const MetricSeries& from, std::size_t i, double value, MetricSeries& to) {
  to.steps.push_back(from.steps[i]);
  to.tokens.push_back(from.tokens[i]);
  to.values.push_back(value);
  to.attempts.push_back(from.attempts[i]);
}

/// Calls `take` with the bounds [begin, end) of each range that has points.
void ForRanges(const MetricSeries& series, int ranges,
               const std::function<void(std::size_t, std::size_t)>& take) {
  const std::size_t size = series.tokens.size();
  const auto [least, greatest] = std::minmax_element(series.tokens.begin(), series.tokens.end());
  const double first = static_cast<double>(*least);
  const double width =
      std::max(1.0, (static_cast<double>(*greatest) - first + 1) / static_cast<double>(ranges));
  const auto range = [&](std::size_t i) {
    return static_cast<std::int64_t>((static_cast<double>(series.tokens[i]) - first) / width);
  };
  for (std::size_t begin = 0, end = 0; begin < size; begin = end) {
    while (end < size && range(end) == range(begin)) ++end;
    take(begin, end);
  }
}

MetricSeries Means(const MetricSeries& series, int points) {
  MetricSeries out;
  ForRanges(series, points, [&](std::size_t begin, std::size_t end) {
    double sum = 0;
    int finite = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(series.values[i])) continue;
      sum += series.values[i];
      ++finite;
    }
    Append(series, end - 1, finite > 0 ? sum / finite : series.values[end - 1], out);
  });
  return out;
}

MetricSeries Extremes(const MetricSeries& series, int points) {
  MetricSeries out;
  ForRanges(series, std::max(1, points / 2), [&](std::size_t begin, std::size_t end) {
    std::size_t least = end, greatest = end;
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(series.values[i])) continue;
      if (least == end || series.values[i] < series.values[least]) least = i;
      if (greatest == end || series.values[i] > series.values[greatest]) greatest = i;
    }
    if (least == end) least = greatest = end - 1;
    const auto [a, b] = std::minmax(least, greatest);
    Append(series, a, series.values[a], out);
    if (b != a && points > 1) Append(series, b, series.values[b], out);
  });
  return out;
}

MetricSeries Even(const MetricSeries& series, int points) {
  MetricSeries out;
  const std::size_t last = series.steps.size() - 1;
  for (int i = 0; i < points; ++i) {
    const std::size_t at =
        points == 1 ? last
                    : static_cast<std::size_t>(i) * last / (static_cast<std::size_t>(points) - 1);
    Append(series, at, series.values[at], out);
  }
  return out;
}

}  // namespace

MetricSeries AfterStep(const MetricSeries& series, std::int64_t after) {
  MetricSeries out;
  out.metric = series.metric;
  for (std::size_t i = 0; i < series.steps.size(); ++i) {
    if (series.steps[i] > after) Append(series, i, series.values[i], out);
  }
  return out;
}

MetricSeries Sample(const MetricSeries& series, int points, Request::Sampling how) {
  if (points <= 0 || series.steps.size() <= static_cast<std::size_t>(points)) return series;
  MetricSeries out = how == Request::SAMPLING_MEAN      ? Means(series, points)
                     : how == Request::SAMPLING_MIN_MAX ? Extremes(series, points)
                                                        : Even(series, points);
  out.metric = series.metric;
  return out;
}

}  // namespace sae::server
