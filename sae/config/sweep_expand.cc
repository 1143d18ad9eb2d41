// From axes to points: counting, grids, draws.
#include <algorithm>
#include <cmath>

#include "sae/base/random.h"
#include "sae/config/search_rungs.h"
#include "sae/config/sweep_internal.h"

namespace sae::config {
namespace internal {

double StepOf(const Parameter& p) {
  return p.kind == Parameter::Kind::kIntUniform && p.step == 0 ? 1 : p.step;
}

namespace {
/// Points of a range on a grid; the last may miss `max` by rounding, hence the slack.
double RangeCount(const Parameter& p) {
  const double step = StepOf(p);
  return step > 0 ? std::floor((p.max - p.min) / step * (1 + 1e-12) + 1e-9) + 1 : 0;
}
}  // namespace

double AxisCount(const Parameter& p) {
  return p.kind == Parameter::Kind::kValues ? static_cast<double>(p.values.size()) : RangeCount(p);
}

double TotalPoints(const SweepSpec& spec) {
  if (spec.search != "grid") return static_cast<double>(spec.max_trials);
  if (spec.parameters.empty()) return 1;
  double total = 0;
  for (const ParameterSet& set : spec.parameters) {
    double product = 1;
    for (const Parameter& p : set) product *= AxisCount(p);
    total += product;
  }
  return total;
}

bool Applies(const Parameter& p,
             const std::vector<std::pair<std::string, std::string>>& assignments) {
  return std::all_of(p.when.begin(), p.when.end(), [&](const Condition& c) {
    const auto at = std::find_if(assignments.begin(), assignments.end(),
                                 [&](const auto& a) { return a.first == c.path; });
    return at != assignments.end() &&
           std::find(c.values.begin(), c.values.end(), at->second) != c.values.end();
  });
}

}  // namespace internal

namespace {
using internal::NumberText;
using internal::StepOf;

std::string AxisValue(const Parameter& p, std::int64_t i) {
  if (p.kind == Parameter::Kind::kValues) return p.values[static_cast<std::size_t>(i)];
  return NumberText(p.min + static_cast<double>(i) * StepOf(p));
}

/// A draw from one axis by a uniform u in [0, 1).
std::string Draw(const Parameter& p, double u) {
  switch (p.kind) {
    case Parameter::Kind::kValues:
      return p.values[std::min(static_cast<std::size_t>(u * static_cast<double>(p.values.size())),
                               p.values.size() - 1)];
    case Parameter::Kind::kIntUniform:
      return NumberText(p.min + std::floor(u * internal::AxisCount(p)) * StepOf(p));
    case Parameter::Kind::kUniform:
      return NumberText(p.step > 0 ? p.min + std::floor(u * internal::AxisCount(p)) * p.step
                                   : p.min + u * (p.max - p.min));
    case Parameter::Kind::kLogUniform: {
      const double x = std::exp(std::log(p.min) + u * (std::log(p.max) - std::log(p.min)));
      const double stepped = p.step > 0 ? std::round(x / p.step) * p.step : x;
      return NumberText(std::clamp(stepped, p.min, p.max));
    }
  }
  return "null";
}

/// Visits every point of the product from axis `at` on; `point` holds the axes before it.
absl::Status VisitGrid(const ParameterSet& set, std::size_t at, TrialPoint& point,
                       std::size_t& index, const TrialVisitor& visit) {
  while (at < set.size() && !internal::Applies(set[at], point.assignments)) ++at;
  if (at == set.size()) return visit(index++, point);
  const auto count = static_cast<std::int64_t>(internal::AxisCount(set[at]));
  const TrialConfig before = point.config;
  for (std::int64_t i = 0; i < count; ++i) {
    std::string value = AxisValue(set[at], i);
    SAE_RETURN_IF_ERROR(SetField(point.config, set[at].path, value));
    point.assignments.emplace_back(set[at].path, std::move(value));
    SAE_RETURN_IF_ERROR(VisitGrid(set, at + 1, point, index, visit));
    point.assignments.pop_back();
    point.config = before;
  }
  return absl::OkStatus();
}

absl::StatusOr<TrialPoint> DrawPoint(const SweepSpec& spec, std::int64_t index) {
  TrialPoint point;
  point.config = spec.trial;
  if (spec.parameters.empty()) return point;
  const ParameterSet& set =
      spec.parameters[static_cast<std::size_t>(index) % spec.parameters.size()];
  for (std::size_t axis = 0; axis < set.size(); ++axis) {
    if (!internal::Applies(set[axis], point.assignments)) continue;
    // Each axis draws from a stream of its own: what `when` leaves out shifts none of the others.
    const std::uint64_t h = HashCounter(static_cast<std::uint64_t>(spec.search_seed),
                                        static_cast<std::uint64_t>(index), axis);
    std::string value = Draw(set[axis], static_cast<double>(h >> 11) * 0x1.0p-53);
    SAE_RETURN_IF_ERROR(SetField(point.config, set[axis].path, value));
    point.assignments.emplace_back(set[axis].path, std::move(value));
  }
  return point;
}

}  // namespace

absl::Status ForEachTrial(const SweepSpec& spec, const TrialVisitor& visit) {
  internal::Problems problems;
  internal::CheckSearch(spec, problems);
  internal::CheckParameters(spec, problems);
  SAE_RETURN_IF_ERROR(problems.ToStatus());
  if (spec.search != "grid") {
    for (std::int64_t i = 0; i < spec.max_trials; ++i) {
      SAE_ASSIGN_OR_RETURN(TrialPoint point, DrawPoint(spec, i));
      FillForSearch(spec, point.config);
      SAE_RETURN_IF_ERROR(visit(static_cast<std::size_t>(i), point));
    }
    return absl::OkStatus();
  }
  TrialPoint base;
  base.config = spec.trial;
  if (spec.parameters.empty()) return visit(0, base);
  std::size_t index = 0;
  for (const ParameterSet& set : spec.parameters)
    SAE_RETURN_IF_ERROR(VisitGrid(set, 0, base, index, visit));
  return absl::OkStatus();
}

absl::StatusOr<std::size_t> CountTrials(const SweepSpec& spec) {
  std::size_t count = 0;
  SAE_RETURN_IF_ERROR(ForEachTrial(spec, [&](std::size_t, const TrialPoint&) {
    ++count;
    return absl::OkStatus();
  }));
  return count;
}

absl::StatusOr<std::vector<TrialPoint>> ExpandTrials(const SweepSpec& spec) {
  std::vector<TrialPoint> out;
  SAE_RETURN_IF_ERROR(ForEachTrial(spec, [&](std::size_t, const TrialPoint& point) {
    out.push_back(point);
    return absl::OkStatus();
  }));
  return out;
}

}  // namespace sae::config
