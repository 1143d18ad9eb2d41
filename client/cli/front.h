#pragma once
// Pareto fronts of (L0, FVU), both to be small, and comparing two at equal L0. Pure functions.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace sae::cli {

struct FrontPoint {
  double l0 = 0;
  double fvu = 0;
};

/// Indices of the points that no other beats in both (of equal ones the first), by rising L0.
/// Points that are not finite, or whose L0 is not positive, never stand on it.
std::vector<std::size_t> ParetoFront(const std::vector<FrontPoint>& points);

/// FVU of a front (rising L0) at `l0`: linear in log L0 between neighbours; nullopt outside.
std::optional<double> FvuAt(const std::vector<FrontPoint>& front, double l0);

/// FvuAt, and beyond an end of a front of two points or more by a share `slack` of its L0 along the
/// last piece.
std::optional<double> FvuNear(const std::vector<FrontPoint>& front, double l0, double slack);

struct Comparison {
  struct At {
    double l0 = 0;
    double a = 0;  ///< FVU of each
    double b = 0;
  };
  std::vector<At>
      at;  ///< at the L0 of every point of either front inside the overlap; empty: not comparable
};
Comparison Compare(const std::vector<FrontPoint>& a, const std::vector<FrontPoint>& b);

}  // namespace sae::cli
