#pragma once
// Runs a test on every instruction set that this processor has and Highway dispatches to.

#include <cstdint>
#include <hwy/targets.h>

namespace sae::kernels::testing {

template <class Body>
void ForEachTarget(Body body) {
  const auto supported = static_cast<std::uint64_t>(hwy::SupportedTargets());
  for (std::uint64_t rest = supported; rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(static_cast<std::int64_t>(rest & (~rest + 1)));
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace sae::kernels::testing
