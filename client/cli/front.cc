#include "client/cli/front.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace sae::cli {

std::vector<std::size_t> ParetoFront(const std::vector<FrontPoint>& points) {
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) {
    return !std::isfinite(points[i].l0) || !std::isfinite(points[i].fvu) || points[i].l0 <= 0;
  });
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(points[a].l0, points[a].fvu) < std::pair(points[b].l0, points[b].fvu);
  });
  std::vector<std::size_t> front;
  double best = std::numeric_limits<double>::infinity();
  for (const std::size_t i : order) {
    if (points[i].fvu >= best) continue;
    best = points[i].fvu;
    front.push_back(i);
  }
  return front;
}

std::optional<double> FvuAt(const std::vector<FrontPoint>& front, double l0) {
  if (front.empty() || !(l0 >= front.front().l0) || l0 > front.back().l0) return std::nullopt;
  const auto right = std::lower_bound(front.begin(), front.end(), l0,
                                      [](const FrontPoint& p, double x) { return p.l0 < x; });
  if (right->l0 == l0) return right->fvu;
  const auto left = right - 1;
  const double t = (std::log(l0) - std::log(left->l0)) / (std::log(right->l0) - std::log(left->l0));
  return left->fvu + t * (right->fvu - left->fvu);
}

std::optional<double> FvuNear(const std::vector<FrontPoint>& front, double l0, double slack) {
  if (const auto inside = FvuAt(front, l0)) return inside;
  if (front.size() < 2 || !(l0 >= front.front().l0 * (1 - slack)) ||
      !(l0 <= front.back().l0 * (1 + slack))) {
    return std::nullopt;
  }
  const bool below = l0 < front.front().l0;
  const FrontPoint& a = below ? front[0] : front[front.size() - 2];
  const FrontPoint& b = below ? front[1] : front[front.size() - 1];
  const double t = (std::log(l0) - std::log(a.l0)) / (std::log(b.l0) - std::log(a.l0));
  return a.fvu + t * (b.fvu - a.fvu);
}

Comparison Compare(const std::vector<FrontPoint>& a, const std::vector<FrontPoint>& b) {
  std::set<double> at;
  for (const auto* front : {&a, &b}) {
    for (const FrontPoint& p : *front) at.insert(p.l0);
  }
  Comparison out;
  for (const double l0 : at) {
    const auto fa = FvuAt(a, l0);
    const auto fb = FvuAt(b, l0);
    if (fa && fb) out.at.push_back({l0, *fa, *fb});
  }
  return out;
}

}  // namespace sae::cli
