#pragma once
// Work on blocks of tokens, of one encoder or of several that look at the same tokens: a thread takes a
// group of blocks through every encoder before it takes the next group, so that its rows are in cache for
// all of them. Each encoder's thread and order of blocks are those it has alone, so its bits are, too.
// One call at a time per pool. Allocates nothing. Fails never.

#include <cstdint>
#include <span>

#include <absl/functional/function_ref.h>

#include "sae/base/parallel.h"

namespace sae::kernels {

/// Calls body(begin, end, worker) for parts of [0, blocks) of at most `group` blocks, ascending for each worker.
struct BlockJob {
  using Body = absl::FunctionRef<void(std::int64_t begin, std::int64_t end, int worker)>;
  std::int64_t blocks = 0;
  std::int64_t group = 1;
  Body body;
};

inline void RunBlocks(std::span<const BlockJob> jobs, ThreadPool& pool) {
  const std::int64_t size = pool.size();
  pool.ParallelFor(size, [&](std::int64_t first, std::int64_t last, int) {
    for (std::int64_t worker = first; worker < last; ++worker) {
      bool more = true;
      for (std::int64_t round = 0; more; ++round) {
        more = false;
        for (const BlockJob& job : jobs) {
          const std::int64_t begin = job.blocks * worker / size + round * job.group;
          const std::int64_t part_end = job.blocks * (worker + 1) / size;
          if (begin >= part_end) continue;
          const std::int64_t end = begin + job.group < part_end ? begin + job.group : part_end;
          job.body(begin, end, static_cast<int>(worker));
          more = more || end < part_end;
        }
      }
    }
  });
}

/// Where the encoders of a gang wait for each other. Run returns when the job is done; who runs it, and
/// beside which others, is the meeting's affair.
class BlockMeeting {
 public:
  virtual ~BlockMeeting() = default;
  virtual void Run(const BlockJob& job, ThreadPool& pool) = 0;
};

inline void RunBlocks(BlockMeeting* meeting, const BlockJob& job, ThreadPool& pool) {
  if (meeting != nullptr) {
    meeting->Run(job, pool);
  } else {
    RunBlocks(std::span<const BlockJob>(&job, 1), pool);
  }
}

}  // namespace sae::kernels
