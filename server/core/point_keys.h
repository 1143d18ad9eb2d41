#pragma once
// Tells configurations of trials apart without building them: two points of one base have the same
// key where every field has the same value, whichever of them the points name. Immutable.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sae/config/run_config.h"

namespace sae::server {

class PointKeys {
 public:
  explicit PointKeys(const config::TrialConfig& base);
  /// `assignments`: path, JSON scalar. Of unknown paths the text counts.
  std::uint64_t Of(const std::vector<std::pair<std::string, std::string>>& assignments) const;

 private:
  std::uint64_t sum_ = 0;                                ///< of all fields of the base
  std::unordered_map<std::string, std::uint64_t> base_;  ///< path -> its part of the sum
};

}  // namespace sae::server
