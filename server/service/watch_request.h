#pragma once
// What a reader of a sweep's events asks for, checked. Pure functions.

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "saeloom/v1/sweep_service.pb.h"

namespace sae::server {

struct WatchFilter {
  std::string sweep;  ///< bare name
  std::int64_t after = 0;
  std::vector<int> trials;  ///< sorted indices; empty = all
  bool lifecycle = true;
  bool points = true;
  bool counts = false;
  absl::Duration conflate;  ///< zero = every point
};

/// INVALID_ARGUMENT naming the field.
[[nodiscard]] absl::StatusOr<WatchFilter> ParseWatch(const saeloom::v1::WatchSweepRequest& request);

/// Where a reader of this sweep goes on: opaque to clients, refused for any other sweep.
std::string ResumeToken(const std::string& sweep, std::int64_t seq);
[[nodiscard]] absl::StatusOr<std::int64_t> ParseResumeToken(const std::string& token,
                                                            const std::string& sweep);

}  // namespace sae::server
