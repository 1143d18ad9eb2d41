#pragma once
// Element-wise reductions on the host, shared by the backends. Pure functions, reentrant. float16
// and bfloat16 are widened to float32 and rounded after each operation; integers wrap; of NaN in
// kMax and kMin nothing is promised but that ranks agree.

#include <cstdint>

#include "sae/base/dtype.h"
#include "sae/comm/communicator.h"

namespace sae::comm {

/// accumulator[i] = accumulator[i] op next[i].
void ReduceInto(void* accumulator, const void* next, std::int64_t count, DType dtype, ReduceOp op);

}  // namespace sae::comm
