#pragma once
// Collectives between the ranks of one trial. All ranks call the same operations in the same order, from
// one thread each; Abort may come from any thread, unblocks every rank and is sticky. Buffers are the
// caller's, on the host unless a backend says otherwise, and are not read or written after return.
// Errors: DEADLINE_EXCEEDED when a rank stays away (names it where the backend can tell), ABORTED after
// Abort, INVALID_ARGUMENT for sizes that cannot be right, UNAVAILABLE for a broken transport.
// Reductions add in rank order (0 first) in `inproc` and `mpi`, so the same data give the same bits.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sae/base/dtype.h"
#include "sae/base/status.h"

namespace sae::comm {

enum class ReduceOp { kSum, kMax, kMin };

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// data[i] = op over ranks; every rank gets the result.
  [[nodiscard]] virtual absl::Status AllReduce(void* data, std::int64_t count, DType dtype, ReduceOp op) = 0;
  /// `input` is size() blocks of `count`; rank r gets the reduced block r.
  [[nodiscard]] virtual absl::Status ReduceScatter(const void* input, void* output, std::int64_t count,
                                                   DType dtype, ReduceOp op) = 0;
  /// Rank r contributes counts[r] elements (the same `counts` everywhere, zeros allowed); the parts follow
  /// each other in rank order in `output`.
  [[nodiscard]] virtual absl::Status AllGatherV(const void* input, void* output,
                                                std::span<const std::int64_t> counts, DType dtype) = 0;
  /// Block r of `input` (count elements) goes to rank r; block s of `output` came from rank s.
  [[nodiscard]] virtual absl::Status AllToAll(const void* input, void* output, std::int64_t count, DType dtype) = 0;
  [[nodiscard]] virtual absl::Status Broadcast(void* data, std::int64_t count, DType dtype, int root) = 0;
  [[nodiscard]] virtual absl::Status Barrier() = 0;
  /// Ranks of equal `color` form a group, ordered by `key` then rank.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int key) = 0;
  virtual void Abort(const std::string& reason) = 0;

  /// Payload bytes this rank has contributed since the start, all operations.
  virtual std::int64_t bytes_sent() const = 0;

  template <class T>
  [[nodiscard]] absl::Status AllReduceSum(std::span<T> data) {
    return AllReduce(data.data(), static_cast<std::int64_t>(data.size()), DTypeOf<T>(), ReduceOp::kSum);
  }
  /// Equal parts: output.size() == size() * input.size().
  template <class T>
  [[nodiscard]] absl::Status AllGather(std::span<const T> input, std::span<T> output) {
    const std::vector<std::int64_t> counts(static_cast<std::size_t>(size()), static_cast<std::int64_t>(input.size()));
    return AllGatherV(input.data(), output.data(), counts, DTypeOf<T>());
  }
};

/// A group of one: every operation is a copy.
std::unique_ptr<Communicator> CreateSelf();

/// MPI_COMM_WORLD, duplicated. MPI must be initialised (FAILED_PRECONDITION) with at least
/// MPI_THREAD_SERIALIZED. `deadline` bounds each operation. UNIMPLEMENTED when built without MPI.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateMpi(absl::Duration deadline);
/// UNIMPLEMENTED when built without NCCL.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Communicator>> CreateNccl();

/// Runs `fn` once a rank, each on its own thread, over an in-process group. A rank that returns an error
/// aborts the group. Returns the first error by rank (ABORTED ones last), annotated with its rank.
[[nodiscard]] absl::Status RunInProcess(int size, const std::function<absl::Status(Communicator&)>& fn,
                                        absl::Duration deadline = absl::Seconds(60));

}  // namespace sae::comm
