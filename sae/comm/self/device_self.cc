#include "sae/comm/self/device_self.h"

#include <utility>

#include "sae/base/mutex.h"
#include "sae/comm/backoff.h"

namespace sae::comm {
namespace {

class DeviceSelf final : public Communicator {
 public:
  DeviceSelf(DeviceRuntime& runtime, void* stream, void* event, absl::Duration deadline)
      : runtime_(runtime), stream_(stream), event_(event), deadline_(deadline) {}
  ~DeviceSelf() override { runtime_.DestroyEvent(event_); }
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void Abort(const std::string& reason) override {
    (void)Fail(absl::AbortedError("rank 0: " + reason));
  }
  absl::Status Check() override {
    MutexLock lock(mu_);
    return failed_;
  }
  void SetEnqueueOnly(bool enqueue_only) override { enqueue_only_ = enqueue_only; }
  void SetStream(void* stream) override { stream_ = stream; }
  absl::Status Synchronize() override { return Wait("Synchronize"); }

 protected:
  absl::Status DoAllReduce(void*, std::int64_t, DType, ReduceOp) override {
    return Copy("AllReduce", nullptr, nullptr, 0);
  }
  absl::Status DoReduceScatter(const void* input, void* output, std::int64_t count, DType dtype,
                               ReduceOp) override {
    return Copy("ReduceScatter", input, output, count * SizeOf(dtype));
  }
  absl::Status DoAllGather(const void* input, void* output, const RankCounts& counts,
                           DType dtype) override {
    return Copy("AllGather", input, output, counts[0] * SizeOf(dtype));
  }
  absl::Status DoAllToAll(const void* input, const RankCounts& send, void* output,
                          const RankCounts&, DType dtype) override {
    return Copy("AllToAll", input, output, send[0] * SizeOf(dtype));
  }
  absl::Status DoBroadcast(void*, std::int64_t, DType, int) override {
    return Copy("Broadcast", nullptr, nullptr, 0);
  }
  absl::Status DoBarrier() override { return Copy("Barrier", nullptr, nullptr, 0); }
  absl::StatusOr<std::unique_ptr<Communicator>> DoSplit(int, int) override {
    SAE_RETURN_IF_ERROR(CheckBefore());
    SAE_ASSIGN_OR_RETURN(auto part, CreateDeviceSelf(runtime_, stream_, deadline_));
    part->SetEnqueueOnly(enqueue_only_);
    return part;
  }

 private:
  absl::Status CheckBefore() {
    const absl::Status status = Check();
    return status.ok() ? status : absl::AbortedError(Message(status));
  }
  absl::Status Copy(const char* operation, const void* from, void* to, std::int64_t bytes) {
    SAE_RETURN_IF_ERROR(CheckBefore());
    if (bytes > 0 && from != to) {
      SAE_RETURN_IF_ERROR(runtime_.CopyAsync(to, from, bytes, stream_));
    }
    return enqueue_only_ ? absl::OkStatus() : Wait(operation);
  }
  absl::Status Wait(const char* operation) {
    SAE_RETURN_IF_ERROR(runtime_.RecordEvent(event_, stream_));
    Backoff backoff;
    for (;;) {
      SAE_RETURN_IF_ERROR(Check());
      SAE_ASSIGN_OR_RETURN(const bool done, runtime_.QueryEvent(event_));
      if (done) return absl::OkStatus();
      if (backoff.waited() > deadline_) {
        return Fail(absl::DeadlineExceededError(
            absl::StrCat(operation, ": the stream did not come to its end within ",
                         absl::FormatDuration(deadline_))));
      }
      backoff.Pause();
    }
  }
  absl::Status Fail(absl::Status status) {
    MutexLock lock(mu_);
    if (failed_.ok()) failed_ = std::move(status);
    return failed_;
  }

  DeviceRuntime& runtime_;
  void* stream_;
  void* const event_;
  const absl::Duration deadline_;
  bool enqueue_only_ = false;
  Mutex mu_;
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> CreateDeviceSelf(DeviceRuntime& runtime, void* stream,
                                                               absl::Duration deadline) {
  SAE_ASSIGN_OR_RETURN(void* const event, runtime.CreateEvent());
  return std::unique_ptr<Communicator>(
      std::make_unique<DeviceSelf>(runtime, stream, event, deadline));
}

}  // namespace sae::comm
