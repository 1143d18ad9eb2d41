#pragma once
// The points that no other beats. Pure.

#include <cstddef>
#include <vector>

#include "sae/config/sweep_spec.h"
#include "server/core/core.h"

namespace sae::server {

/// Indices of the points that no other is at least as good as in every cost and better in one;
/// less is better; by the first cost. One with a cost that is not finite is never among them. All
/// have equally many costs.
std::vector<std::size_t> ParetoFront(const std::vector<std::vector<double>>& costs);

/// A value that is missing or not finite meets none.
bool MeetsAll(const std::vector<config::Constraint>& constraints, const Progress& progress);

}  // namespace sae::server
