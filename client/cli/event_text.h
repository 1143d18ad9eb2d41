#pragma once
// One event of a sweep as one line. Pure.

#include <string>

#include "saeloom/v1/sweep_service.pb.h"

namespace sae::cli {

/// "2026-01-31T08:00:00Z     12  0003  RUNNING attempt 2 on worker-0".
std::string EventLine(const saeloom::v1::SweepEvent& event);

}  // namespace sae::cli
