#include "server/search/median_stop.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sae::server::search {
namespace {

constexpr double kMostIntervals = 1000;  ///< what lies beyond counts as the last

}  // namespace

MedianStop::MedianStop(MedianShape shape, std::unique_ptr<Searcher> inner)
    : shape_(shape), inner_(std::move(inner)) {}

MedianStop::Curve& MedianStop::At(int trial) {
  if (curves_.size() <= static_cast<std::size_t>(trial))
    curves_.resize(static_cast<std::size_t>(trial) + 1);
  return curves_[static_cast<std::size_t>(trial)];
}

std::size_t MedianStop::IntervalOf(double tokens) const {
  return static_cast<std::size_t>(
      std::clamp(std::floor(tokens / shape_.interval), 0.0, kMostIntervals));
}

double MedianStop::NextOwn(const Curve& curve) const {
  if (curve.over) return kNever;
  if (curve.means.empty()) return std::max(shape_.grace, shape_.interval);
  const auto next = static_cast<double>(curve.first + curve.means.size());
  return next > kMostIntervals ? kNever : next * shape_.interval;
}

double MedianStop::NextLook(int trial) {
  return std::min(inner_->NextLook(trial), NextOwn(At(trial)));
}

bool MedianStop::IsWorse(double best, std::size_t interval) const {
  const RankedSet& others = means_[interval];
  if (others.empty() || static_cast<std::int64_t>(others.size()) < shape_.min_trials) return false;
  const std::size_t half = others.size() / 2;
  const double upper = others.find_by_order(half)->first;
  if (others.size() % 2 == 1) return best > upper;
  const double lower = others.find_by_order(half - 1)->first;
  // Halves first: the sum of two large ones would overflow.
  return best > lower / 2 + upper / 2;
}

bool MedianStop::Look(Curve& curve, int trial, double tokens, double loss) {
  const std::size_t interval = IntervalOf(tokens);
  if (means_.size() <= interval) means_.resize(interval + 1);
  const double before = curve.means.empty() ? kWorst : curve.means.back();
  if (std::isfinite(loss)) {
    curve.sum += loss;
    ++curve.finite;
    curve.best = std::min(curve.best, loss);
  }
  const bool worse = IsWorse(curve.best, interval);
  if (curve.means.empty()) curve.first = interval;
  // Intervals that were passed without a look have the mean as it was.
  while (curve.first + curve.means.size() < interval) {
    means_[curve.first + curve.means.size()].insert({before, trial});
    curve.means.push_back(before);
  }
  const double mean = curve.finite > 0 ? curve.sum / static_cast<double>(curve.finite) : kWorst;
  curve.means.push_back(std::isfinite(mean) ? mean : kWorst);
  means_[interval].insert({curve.means.back(), trial});
  return worse;
}

std::vector<Decision> MedianStop::Tell(const Input& input) {
  std::vector<Decision> out = inner_->Tell(input);
  Curve& curve = At(input.trial);
  switch (input.kind) {
    case Input::Kind::kReport:
      break;
    case Input::Kind::kResumed:
      return out;
    case Input::Kind::kRetried:
      curve.over = false;
      return out;
    case Input::Kind::kInvalid:
      for (std::size_t i = 0; i < curve.means.size(); ++i)
        means_[curve.first + i].erase({curve.means[i], input.trial});
      curve = {};
      curve.over = true;
      return out;
    default:
      curve.over = true;
      return out;
  }
  if (input.tokens >= NextOwn(curve) && Look(curve, input.trial, input.tokens, input.loss) &&
      (out.empty() || out.back().action == Action::kContinue)) {
    inner_->Tell({Input::Kind::kDone, input.trial});
    out.push_back({input.trial, 0, Action::kStop});
  }
  curve.over = curve.over || (!out.empty() && out.back().action == Action::kStop);
  return out;
}

std::string MedianStop::DebugString() const {
  std::string out = inner_->DebugString();
  for (std::size_t i = 0; i < curves_.size(); ++i) {
    const Curve& c = curves_[i];
    absl::StrAppend(&out, "\ncurve ", i, " best ", c.best, " sum ", c.sum, "/", c.finite,
                    c.over ? " over" : "", " from ", c.first, ":", absl::StrJoin(c.means, ","));
  }
  return out;
}

}  // namespace sae::server::search
