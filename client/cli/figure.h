#pragma once
// The figure of `best --svg`: held-out FVU against L0 (logarithmic), one series an architecture or
// variant, its front as a line, points labelled by what varies. Self-contained SVG 1.1. Pure.

#include <string>
#include <vector>

#include "client/cli/results.h"

namespace sae::cli {

std::string ParetoSvg(const Results& results);

/// Ticks 1, 2, 5 times powers of ten inside [low, high]; more digits where those are fewer than
/// three.
std::vector<double> LogTicks(double low, double high);
/// Steps of 1, 2 or 5 times a power of ten from at or below `low` to at or above `high`: about
/// `count`.
std::vector<double> LinearTicks(double low, double high, int count);

}  // namespace sae::cli
