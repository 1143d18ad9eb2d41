#include "server/service/pareto.h"

#include <algorithm>
#include <cmath>

namespace sae::server {
namespace {

/// `a` is as good everywhere, and better somewhere.
bool Beats(const std::vector<double>& a, const std::vector<double>& b) {
  bool better = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
    better = better || a[i] < b[i];
  }
  return better;
}

bool Holds(double value, const config::Constraint& c) {
  if (!std::isfinite(value)) return false;
  if (c.op == "<") return value < c.bound;
  if (c.op == "<=") return value <= c.bound;
  if (c.op == ">") return value > c.bound;
  return value >= c.bound;
}

}  // namespace

std::vector<std::size_t> ParetoFront(const std::vector<std::vector<double>>& costs) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (std::all_of(costs[i].begin(), costs[i].end(), [](double x) { return std::isfinite(x); }))
      order.push_back(i);
  }
  // In this order no point is beaten by a later one.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return costs[a] < costs[b]; });
  std::vector<std::size_t> front;
  for (const std::size_t i : order) {
    if (std::none_of(front.begin(), front.end(),
                     [&](std::size_t f) { return Beats(costs[f], costs[i]); }))
      front.push_back(i);
  }
  return front;
}

bool MeetsAll(const std::vector<config::Constraint>& constraints, const Progress& progress) {
  return std::all_of(constraints.begin(), constraints.end(), [&](const config::Constraint& c) {
    const auto it = progress.metrics.find(c.metric);
    return it != progress.metrics.end() && Holds(it->second, c);
  });
}

}  // namespace sae::server
