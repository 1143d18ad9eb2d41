#pragma once
// Every operation once, each on what the one before gave, for tests of streams and graphs: nothing
// may be looked at before the last is done. On memory of a device; frees it in the destructor.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

class Chain {
 public:
  /// All are borrowed; `c` is the communicator that Enqueue uses, in `stream`.
  Chain(Communicator& c, DeviceRuntime& runtime, void* stream)
      : c_(c), runtime_(runtime), stream_(stream), host_(static_cast<std::size_t>(c.size())) {}
  ~Chain() {
    for (std::int32_t* buffer : {sum_, scattered_, gathered_, swapped_}) runtime_.Free(buffer);
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  /// First of all.
  absl::Status Prepare() {
    for (std::int32_t** buffer : {&sum_, &scattered_, &gathered_, &swapped_}) {
      SAE_ASSIGN_OR_RETURN(void* const memory, runtime_.Allocate(Bytes(), "chain"));
      *buffer = static_cast<std::int32_t*>(memory);
    }
    return absl::OkStatus();
  }
  absl::Status SetInput(int round) {
    std::fill(host_.begin(), host_.end(), c_.rank() + 10 * round);
    SAE_RETURN_IF_ERROR(runtime_.CopyAsync(sum_, host_.data(), Bytes(), stream_));
    return runtime_.Synchronize(stream_);
  }
  absl::Status Enqueue() {
    // The sum of the inputs; of its largest the own block; all blocks; exchanged; as rank 0 has
    // them.
    SAE_RETURN_IF_ERROR(c_.AllReduce(sum_, c_.size(), DType::kI32, ReduceOp::kSum));
    SAE_RETURN_IF_ERROR(c_.ReduceScatter(sum_, scattered_, 1, DType::kI32, ReduceOp::kMax));
    SAE_RETURN_IF_ERROR(c_.AllGatherEqual(scattered_, gathered_, 1, DType::kI32));
    SAE_RETURN_IF_ERROR(c_.AllToAll(gathered_, swapped_, 1, DType::kI32));
    SAE_RETURN_IF_ERROR(c_.Broadcast(swapped_, c_.size(), DType::kI32, 0));
    return c_.Barrier();
  }
  absl::Status Expect(int round) {
    SAE_RETURN_IF_ERROR(runtime_.CopyAsync(host_.data(), swapped_, Bytes(), stream_));
    SAE_RETURN_IF_ERROR(runtime_.Synchronize(stream_));
    const int n = c_.size();
    const std::int32_t value = n * (n - 1) / 2 + 10 * round * n;
    for (const std::int32_t found : host_) {
      if (found != value)
        return absl::InternalError(absl::StrCat("round ", round, ": ", found, " for ", value));
    }
    return absl::OkStatus();
  }

  /// Captures the operations once and replays them with `rounds` inputs.
  absl::Status ReplayGraph(int rounds) {
    SAE_RETURN_IF_ERROR(runtime_.BeginCapture(stream_));
    SAE_RETURN_IF_ERROR(Enqueue());
    SAE_ASSIGN_OR_RETURN(void* const graph, runtime_.EndCapture(stream_));
    absl::Status status;
    for (int round = 0; round < rounds && status.ok(); ++round) {
      status = SetInput(round);
      if (status.ok()) status = runtime_.LaunchGraph(graph, stream_);
      if (status.ok()) status = c_.Synchronize();
      if (status.ok()) status = Expect(round);
    }
    runtime_.DestroyGraph(graph);
    return status;
  }

 private:
  std::int64_t Bytes() const { return static_cast<std::int64_t>(host_.size()) * 4; }

  Communicator& c_;
  DeviceRuntime& runtime_;
  void* const stream_;
  std::vector<std::int32_t> host_;
  std::int32_t* sum_ = nullptr;
  std::int32_t* scattered_ = nullptr;
  std::int32_t* gathered_ = nullptr;
  std::int32_t* swapped_ = nullptr;
};

}  // namespace sae::comm::contract
