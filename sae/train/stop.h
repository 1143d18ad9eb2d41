#pragma once
// Why a run is asked to end before it is done. The larger value wins when ranks disagree.

#include <cstdint>

namespace sae::train {

enum class StopReason : std::int32_t {
  kNone = 0,
  kPreempt = 1,    ///< SIGUSR1
  kTerminate = 2,  ///< SIGTERM, SIGINT
  kLease = 3,      ///< the lease has passed: another attempt may begin any moment
};

constexpr const char* ToText(StopReason reason) {
  switch (reason) {
    case StopReason::kNone:
      return "no reason";
    case StopReason::kPreempt:
      return "asked to yield (SIGUSR1)";
    case StopReason::kTerminate:
      return "asked to end (SIGTERM or SIGINT)";
    case StopReason::kLease:
      return "the lease has passed";
  }
  return "";
}

}  // namespace sae::train
