#pragma once
// Every operation once, each on what the one before gave, for tests of streams and graphs: nothing
// may be looked at before the last is done. On plain memory.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

/// Device buffers of one int32 each and operations that lead from one to the next: after a run the
/// last holds, on every rank, what Expected says.
class Chain {
 public:
  explicit Chain(int ranks)
      : ranks_(static_cast<std::size_t>(ranks)),
        sum_(ranks_),
        gathered_(ranks_),
        swapped_(ranks_) {}

  void SetInput(int rank, int round) { std::fill(sum_.begin(), sum_.end(), rank + 10 * round); }
  absl::Status Enqueue(Communicator& c) {
    const auto n = static_cast<std::int64_t>(ranks_);
    // sum_[r] = sum of inputs; own part of a scatter; gathered; swapped; from rank 0.
    SAE_RETURN_IF_ERROR(c.AllReduce(sum_.data(), n, DType::kI32, ReduceOp::kSum));
    SAE_RETURN_IF_ERROR(c.ReduceScatter(sum_.data(), &scattered_, 1, DType::kI32, ReduceOp::kMax));
    SAE_RETURN_IF_ERROR(c.AllGatherEqual(&scattered_, gathered_.data(), 1, DType::kI32));
    SAE_RETURN_IF_ERROR(c.AllToAll(gathered_.data(), swapped_.data(), 1, DType::kI32));
    SAE_RETURN_IF_ERROR(c.Broadcast(swapped_.data(), n, DType::kI32, 0));
    return c.Barrier();
  }
  absl::Status Expect(int round) const {
    const int n = static_cast<int>(ranks_);
    const std::int32_t value = n * (n - 1) / 2 + 10 * round * n;
    for (const std::int32_t found : swapped_) {
      if (found != value)
        return absl::InternalError(absl::StrCat("round ", round, ": ", found, " for ", value));
    }
    return absl::OkStatus();
  }

 private:
  const std::size_t ranks_;
  std::vector<std::int32_t> sum_;
  std::int32_t scattered_ = 0;
  std::vector<std::int32_t> gathered_;
  std::vector<std::int32_t> swapped_;
};

}  // namespace sae::comm::contract
