#pragma once
// Collectives between the ranks of one trial. All ranks call the same operations in the same order,
// from one thread each; Abort and Check may come from any thread. Abort unblocks every rank and is
// sticky. Buffers are the caller's: host memory, or memory of the DeviceRuntime that a device
// backend (nccl, or any with staging) was made with. Host backends are done with a buffer when a
// call returns, a device backend when its stream is. Except in AllGather(V) onto the own part,
// input and output do not overlap. Errors: DEADLINE_EXCEEDED when a rank stays away (names it where
// the backend can tell), ABORTED after Abort, INVALID_ARGUMENT for sizes that cannot be right,
// UNAVAILABLE for a broken transport. After DEADLINE_EXCEEDED or UNAVAILABLE the group is as after
// Abort. Reductions add in rank order (0 first) in `inproc` and `mpi`, so the same data give the
// same bits.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "sae/base/dtype.h"
#include "sae/base/status.h"
#include "sae/comm/rank_counts.h"
#include "sae/comm/traffic.h"

namespace sae::comm {

enum class ReduceOp { kSum, kMax, kMin };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// data[i] = op over ranks; every rank gets the result.
  [[nodiscard]] absl::Status AllReduce(void* data, std::int64_t count, DType dtype, ReduceOp op);
  /// `input` is size() blocks of `count`; rank r gets the reduced block r.
  [[nodiscard]] absl::Status ReduceScatter(const void* input, void* output, std::int64_t count,
                                           DType dtype, ReduceOp op);
  /// Rank r contributes counts[r] elements (the same `counts` everywhere, zeros allowed); the parts
  /// follow each other in rank order in `output`.
  [[nodiscard]] absl::Status AllGatherV(const void* input, void* output,
                                        std::span<const std::int64_t> counts, DType dtype);
  /// The same with `count` elements of every rank.
  [[nodiscard]] absl::Status AllGatherEqual(const void* input, void* output, std::int64_t count,
                                            DType dtype);
  /// Block r of `input` (count elements) goes to rank r; block s of `output` came from rank s.
  [[nodiscard]] absl::Status AllToAll(const void* input, void* output, std::int64_t count,
                                      DType dtype);
  /// The same with blocks of send_counts[r] and receive_counts[s] elements, back to back; what r
  /// sends to s is what s receives from r.
  [[nodiscard]] absl::Status AllToAllV(const void* input, std::span<const std::int64_t> send_counts,
                                       void* output, std::span<const std::int64_t> receive_counts,
                                       DType dtype);
  [[nodiscard]] absl::Status Broadcast(void* data, std::int64_t count, DType dtype, int root);
  [[nodiscard]] absl::Status Barrier();
  /// Ranks of equal `color` form a group, ordered by `key` then rank. An Abort of the whole reaches
  /// its parts, not the other way round. The part counts into this communicator's traffic.
  [[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key);

  virtual void Abort(const std::string& reason) = 0;
  /// Whether the group still works, without waiting: OK, or the error that ended it.
  [[nodiscard]] virtual absl::Status Check() = 0;

  /// Device backends. Enqueue-only: operations return when they are in the stream (also in one that
  /// is being captured; replays do the operation again), and Synchronize waits, within the
  /// deadline, for all that is in the stream. Host backends are always done at once.
  virtual void SetEnqueueOnly(bool /*enqueue_only*/) {}
  virtual void SetStream(void* /*stream*/) {}
  [[nodiscard]] virtual absl::Status Synchronize() { return Check(); }

  /// Payload bytes this rank has contributed through this communicator, without its parts.
  std::int64_t bytes_sent() const { return bytes_sent_; }
  /// Of this communicator and its parts. Operations count under the purpose that was set last.
  Traffic& traffic() { return *traffic_; }
  void SetPurpose(absl::string_view label) { purpose_ = traffic_->Purpose(label); }
  /// For a part of an operation that has a purpose of its own: what purpose() said before.
  int purpose() const { return purpose_; }
  void RestorePurpose(int purpose) { purpose_ = purpose; }

  template <class T>
  [[nodiscard]] absl::Status AllReduceSum(std::span<T> data) {
    return AllReduce(data.data(), static_cast<std::int64_t>(data.size()), DTypeOf<T>(),
                     ReduceOp::kSum);
  }
  /// Equal parts: output.size() == size() * input.size(). Allocates nothing.
  template <class T>
  [[nodiscard]] absl::Status AllGather(std::span<const T> input, std::span<T> output) {
    if (output.size() != input.size() * static_cast<std::size_t>(size()))
      return BadGather(input.size(), output.size());
    return AllGatherEqual(input.data(), output.data(), static_cast<std::int64_t>(input.size()),
                          DTypeOf<T>());
  }

 protected:
  // The backends. Counts are not negative here, and a buffer is null only where its count is 0.
  [[nodiscard]] virtual absl::Status DoAllReduce(void* data, std::int64_t count, DType dtype,
                                                 ReduceOp op) = 0;
  [[nodiscard]] virtual absl::Status DoReduceScatter(const void* input, void* output,
                                                     std::int64_t count, DType dtype,
                                                     ReduceOp op) = 0;
  [[nodiscard]] virtual absl::Status DoAllGather(const void* input, void* output,
                                                 const RankCounts& counts, DType dtype) = 0;
  [[nodiscard]] virtual absl::Status DoAllToAll(const void* input, const RankCounts& send,
                                                void* output, const RankCounts& receive,
                                                DType dtype) = 0;
  [[nodiscard]] virtual absl::Status DoBroadcast(void* data, std::int64_t count, DType dtype,
                                                 int root) = 0;
  [[nodiscard]] virtual absl::Status DoBarrier() = 0;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<Communicator>> DoSplit(int color,
                                                                              int key) = 0;

 private:
  absl::Status BadGather(std::size_t input, std::size_t output) const;
  absl::Status Gather(const void* input, void* output, const RankCounts& counts, DType dtype);
  absl::Status Exchange(const void* input, const RankCounts& send, void* output,
                        const RankCounts& receive, DType dtype);
  /// Counts `bytes` when `status` is OK, and returns it.
  absl::Status Counted(absl::Status status, Operation operation, std::int64_t bytes);

  std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();  // shared with the parts
  int purpose_ = 0;
  std::int64_t bytes_sent_ = 0;
};

/// A group of one: every operation is a copy.
std::unique_ptr<Communicator> CreateSelf();

/// MPI_COMM_WORLD, duplicated. MPI must be initialised (FAILED_PRECONDITION) with at least
/// MPI_THREAD_SERIALIZED. `deadline` bounds each operation. UNIMPLEMENTED when built without MPI.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateMpi(absl::Duration deadline);
/// Runs `fn` once a rank, each on its own thread, over an in-process group. A rank that returns an
/// error aborts the group. Returns the first error by rank (ABORTED ones last), annotated with its
/// rank.
[[nodiscard]] absl::Status RunInProcess(int size,
                                        const std::function<absl::Status(Communicator&)>& fn,
                                        absl::Duration deadline = absl::Seconds(60));

}  // namespace sae::comm
