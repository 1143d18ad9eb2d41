#pragma once
// Lets the suite, which works on host memory, drive a communicator that works on a device's: every
// operation allocates there, copies in, runs, waits, copies out.

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

class OnDevice final : public Communicator {
 public:
  /// All are borrowed.
  OnDevice(Communicator& device, DeviceRuntime& runtime, void* stream)
      : device_(&device), runtime_(runtime), stream_(stream) {}
  int rank() const override { return device_->rank(); }
  int size() const override { return device_->size(); }
  void Abort(const std::string& reason) override { device_->Abort(reason); }
  absl::Status Check() override { return device_->Check(); }
  absl::Status Synchronize() override { return device_->Synchronize(); }

 protected:
  absl::Status DoAllReduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return With(data, bytes, data, bytes, true,
                [&](void*, void* out) { return device_->AllReduce(out, count, dtype, op); });
  }
  absl::Status DoReduceScatter(const void* input, void* output, std::int64_t count, DType dtype,
                               ReduceOp op) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return With(input, bytes * size(), output, bytes, false, [&](void* in, void* out) {
      return device_->ReduceScatter(in, out, count, dtype, op);
    });
  }
  absl::Status DoAllGather(const void* input, void* output, const RankCounts& counts,
                           DType dtype) override {
    std::vector<std::int64_t> list;
    for (int r = 0; r < size(); ++r) list.push_back(counts[r]);
    return With(input, counts[rank()] * SizeOf(dtype), output, counts.Total(size()) * SizeOf(dtype),
                false,
                [&](void* in, void* out) { return device_->AllGatherV(in, out, list, dtype); });
  }
  absl::Status DoAllToAll(const void* input, const RankCounts& send, void* output,
                          const RankCounts& receive, DType dtype) override {
    std::vector<std::int64_t> sends, receives;
    for (int r = 0; r < size(); ++r) {
      sends.push_back(send[r]);
      receives.push_back(receive[r]);
    }
    return With(input, send.Total(size()) * SizeOf(dtype), output,
                receive.Total(size()) * SizeOf(dtype), false, [&](void* in, void* out) {
                  return device_->AllToAllV(in, sends, out, receives, dtype);
                });
  }
  absl::Status DoBroadcast(void* data, std::int64_t count, DType dtype, int root) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return With(data, bytes, data, bytes, true,
                [&](void*, void* out) { return device_->Broadcast(out, count, dtype, root); });
  }
  absl::Status DoBarrier() override { return device_->Barrier(); }
  absl::StatusOr<std::unique_ptr<Communicator>> DoSplit(int color, int key) override {
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, device_->Split(color, key));
    auto wrapped = std::make_unique<OnDevice>(*part, runtime_, stream_);
    wrapped->owned_ = std::move(part);
    return std::unique_ptr<Communicator>(std::move(wrapped));
  }

 private:
  /// `in_place`: what is copied in goes where the result comes from.
  template <class F>
  absl::Status With(const void* input, std::int64_t input_bytes, void* output,
                    std::int64_t output_bytes, bool in_place, const F& operation) {
    SAE_ASSIGN_OR_RETURN(void* const in, runtime_.Allocate(input_bytes, "test input"));
    absl::StatusOr<void*> out = runtime_.Allocate(output_bytes, "test output");
    absl::Status status = out.status();
    if (status.ok()) status = runtime_.CopyAsync(in_place ? *out : in, input, input_bytes, stream_);
    if (status.ok()) status = operation(in, *out);
    if (status.ok()) status = runtime_.CopyAsync(output, *out, output_bytes, stream_);
    // Also after a failure: the copies name memory of this call.
    const absl::Status end = runtime_.Synchronize(stream_);
    runtime_.Free(in);
    if (out.ok()) runtime_.Free(*out);
    return status.ok() ? end : status;
  }

  std::unique_ptr<Communicator> owned_;  // of a part
  Communicator* const device_;
  DeviceRuntime& runtime_;
  void* const stream_;
};

}  // namespace sae::comm::contract
