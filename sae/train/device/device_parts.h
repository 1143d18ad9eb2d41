#pragma once
// What a device engine stands on, all borrowed, and its collectives. Not thread-safe.

#include <cstdint>

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::train {

struct DeviceParts {
  DeviceRuntime* runtime = nullptr;
  /// Collectives on device memory between the ranks of the trial. Null: one rank.
  comm::Communicator* collectives = nullptr;
  /// The collectives are of a device backend and run on `stream` (communicator.h): nothing waits
  /// inside a step, which is captured in a graph. Else the stream is waited for before each.
  bool stream_ordered = false;
  /// Of the engine; null: it makes its own, of one rank or with collectives that are not ordered.
  void* stream = nullptr;
  /// Steps that a deferred decoder row may rest for: after so many all of them catch up. 8 bytes
  /// each. At least 1.
  std::int64_t deferred_window = 1024;
};

/// Collectives in the order of one stream. No-ops for one rank.
class DeviceCollectives {
 public:
  /// `collectives`: parts.collectives or a part of it; null: one rank.
  DeviceCollectives(const DeviceParts& parts, comm::Communicator* collectives, void* stream)
      : parts_(parts), collectives_(collectives), stream_(stream) {}

  /// All that is in the stream is done: within the deadline of ordered collectives.
  [[nodiscard]] absl::Status Wait() {
    if (size() > 1 && parts_.stream_ordered) return collectives_->Synchronize();
    return parts_.runtime->Synchronize(stream_);
  }
  int size() const { return collectives_ == nullptr ? 1 : collectives_->size(); }
  /// data[i] = sum over ranks.
  template <class V>
  [[nodiscard]] absl::Status Sum(V* data, std::int64_t count) {
    if (size() == 1) return absl::OkStatus();
    SAE_RETURN_IF_ERROR(Before());
    return collectives_->AllReduce(data, count, DTypeOf<V>(), comm::ReduceOp::kSum);
  }
  /// data[i] = min over ranks.
  template <class V>
  [[nodiscard]] absl::Status Min(V* data, std::int64_t count) {
    if (size() == 1) return absl::OkStatus();
    SAE_RETURN_IF_ERROR(Before());
    return collectives_->AllReduce(data, count, DTypeOf<V>(), comm::ReduceOp::kMin);
  }
  /// out [count] = this rank's of size() blocks of data, summed over ranks.
  template <class V>
  [[nodiscard]] absl::Status SumToOwners(const V* data, V* out, std::int64_t count) {
    SAE_RETURN_IF_ERROR(Before());
    return collectives_->ReduceScatter(data, out, count, DTypeOf<V>(), comm::ReduceOp::kSum);
  }
  /// Of size() equal parts of `data` every rank has its own right: all become so.
  [[nodiscard]] absl::Status ShareParts(void* data, std::int64_t bytes) {
    SAE_RETURN_IF_ERROR(Before());
    const std::int64_t own = bytes / size();
    return collectives_->AllGatherEqual(static_cast<char*>(data) + own * collectives_->rank(), data,
                                        own, DType::kU8);
  }
  /// Block r of `data` [size(), count] goes to rank r; block s of `out` came from rank s.
  template <class V>
  [[nodiscard]] absl::Status Exchange(const V* data, V* out, std::int64_t count) {
    SAE_RETURN_IF_ERROR(Before());
    return collectives_->AllToAll(data, out, count, DTypeOf<V>());
  }
  /// out [size(), count]; for one rank `out` may be `data` itself.
  template <class V>
  [[nodiscard]] absl::Status Gather(const V* data, std::int64_t count, V* out) {
    if (size() == 1) {
      if (out == data) return absl::OkStatus();
      return parts_.runtime->CopyAsync(out, data, count * std::int64_t{sizeof(V)}, stream_);
    }
    SAE_RETURN_IF_ERROR(Before());
    counts_.assign(static_cast<std::size_t>(size()), count);
    return collectives_->AllGatherV(data, out, counts_, DTypeOf<V>());
  }

 private:
  absl::Status Before() {
    return parts_.stream_ordered ? absl::OkStatus() : parts_.runtime->Synchronize(stream_);
  }

  const DeviceParts& parts_;
  comm::Communicator* collectives_;
  void* stream_;
  std::vector<std::int64_t> counts_;
};

}  // namespace sae::train
