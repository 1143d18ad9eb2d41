#pragma once
// Fewer points of a curve, for a plot. Pure functions.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

/// Points with step > after.
MetricSeries AfterStep(const MetricSeries& series, std::int64_t after);

/// At most `points` of them; all when points <= 0 or there are no more. Even: that many of the
/// points themselves, the first and the last among them. Mean: of each of `points` equal ranges of
/// tokens the mean of what is finite, at its last point. Min-max: of each of points / 2 ranges the
/// points of its least and its greatest finite value, in their order. Ranges without points give
/// none; ranges without a finite value give their last point.
MetricSeries Sample(const MetricSeries& series, int points,
                    saeloom::v1::QueryMetricsRequest::Sampling how);

}  // namespace sae::server
