#pragma once
// What one group of calls does when its turn in the stream comes: moves bytes to and from the
// peers, all at once, then reduces. May run again, as part of a graph.

#include <atomic>
#include <functional>
#include <vector>

#include "tests/fake_nccl/channel.h"
#include "tests/fake_nccl/nccl.h"

namespace fake_nccl {

enum class Call { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kSend, kRecv };

struct Op {
  Call call = Call::kAllReduce;
  const unsigned char* input = nullptr;
  unsigned char* output = nullptr;
  std::size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int peer = 0;  ///< the root of a broadcast, the other end of a message
};

enum class Outcome { kDone, kMismatch, kBroken, kStopped };

/// One rank's part in `ops`. Polls `stop` and `broken` while it waits; what the peers had sent
/// before `broken` is still taken. Calls `half_sent` once when half of what it sends is in the
/// rings.
Outcome RunOps(Board* board, int rank, int ranks, const std::vector<Op>& ops,
               const std::function<bool()>& stop, const std::function<bool()>& broken,
               const std::function<void()>& half_sent);

std::size_t WidthOf(ncclDataType_t type);

}  // namespace fake_nccl
