#include "sae/comm/staging/staging.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sae/base/mutex.h"
#include "sae/comm/backoff.h"

namespace sae::comm {
namespace {

/// One operation as a callback of the stream finds it. It stays as it is while the communicator
/// lives, for a graph may run it again.
struct Step {
  Operation operation = Operation::kBarrier;
  std::int64_t count = 0;
  DType dtype = DType::kU8;
  int parameter = 0;                  ///< the reduction, or the root
  std::vector<std::int64_t> send;     ///< one a rank, of a gather or an exchange
  std::vector<std::int64_t> receive;  ///< of an exchange
  const void* input = nullptr;        ///< on the device
  void* output = nullptr;
  std::int64_t input_bytes = 0;
  std::int64_t output_bytes = 0;
  char* staged_input = nullptr;  ///< pinned
  char* staged_output = nullptr;
  class Staged* owner = nullptr;
};

/// The caller's view of an operation, before it is a step.
struct Request {
  Operation operation = Operation::kBarrier;
  std::int64_t count = 0;
  DType dtype = DType::kU8;
  int parameter = 0;
  const RankCounts* send = nullptr;
  const RankCounts* receive = nullptr;
  const void* input = nullptr;
  void* output = nullptr;
  std::int64_t input_bytes = 0;
  std::int64_t output_bytes = 0;
};

bool Equal(const std::vector<std::int64_t>& list, const RankCounts* counts) {
  if (counts == nullptr) return list.empty();
  for (std::size_t r = 0; r < list.size(); ++r) {
    if (list[r] != (*counts)[static_cast<int>(r)]) return false;
  }
  return !list.empty();
}

bool Is(const Step& step, const Request& request) {
  return step.operation == request.operation && step.count == request.count &&
         step.dtype == request.dtype && step.parameter == request.parameter &&
         step.input == request.input && step.output == request.output &&
         step.input_bytes == request.input_bytes && step.output_bytes == request.output_bytes &&
         Equal(step.send, request.send) && Equal(step.receive, request.receive);
}

class Staged final : public Communicator {
 public:
  Staged(std::unique_ptr<Communicator> owned, Communicator& host, const StagingOptions& options,
         void* event)
      : owned_(std::move(owned)), host_(host), options_(options), event_(event) {}
  ~Staged() override {
    (void)options_.runtime->Synchronize(options_.stream);
    for (char* memory : pinned_) options_.runtime->FreePinned(memory);
    options_.runtime->DestroyEvent(event_);
  }

  static absl::StatusOr<std::unique_ptr<Communicator>> Make(std::unique_ptr<Communicator> owned,
                                                            Communicator& host,
                                                            const StagingOptions& options,
                                                            bool enqueue_only) {
    if (options.runtime == nullptr)
      return absl::InvalidArgumentError("staging: a device runtime is needed");
    SAE_ASSIGN_OR_RETURN(void* const event, options.runtime->CreateEvent());
    auto made = std::make_unique<Staged>(std::move(owned), host, options, event);
    made->enqueue_only_ = enqueue_only;
    return std::unique_ptr<Communicator>(std::move(made));
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  void Abort(const std::string& reason) override { host_.Abort(reason); }
  absl::Status Check() override { return host_.Check(); }
  void SetEnqueueOnly(bool enqueue_only) override { enqueue_only_ = enqueue_only; }
  void SetStream(void* stream) override {
    if (stream == options_.stream) return;
    const absl::Status status = options_.runtime->Synchronize(options_.stream);
    if (!status.ok()) Keep(status);
    options_.stream = stream;
  }
  absl::Status Synchronize() override {
    SAE_RETURN_IF_ERROR(Wait("Synchronize"));
    {
      MutexLock lock(mu_);
      if (!first_failure_.ok()) return std::exchange(first_failure_, absl::OkStatus());
    }
    return host_.Check();
  }

  /// On the stream's thread.
  void Execute(Step& step) {
    if (const absl::Status result = OnHost(step); !result.ok()) Keep(result);
  }

 protected:
  absl::Status DoAllReduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return Run({.operation = Operation::kAllReduce,
                .count = count,
                .dtype = dtype,
                .parameter = static_cast<int>(op),
                .input = data,
                .output = data,
                .input_bytes = bytes,
                .output_bytes = bytes});
  }
  absl::Status DoReduceScatter(const void* input, void* output, std::int64_t count, DType dtype,
                               ReduceOp op) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return Run({.operation = Operation::kReduceScatter,
                .count = count,
                .dtype = dtype,
                .parameter = static_cast<int>(op),
                .input = input,
                .output = output,
                .input_bytes = bytes * size(),
                .output_bytes = bytes});
  }
  absl::Status DoAllGather(const void* input, void* output, const RankCounts& counts,
                           DType dtype) override {
    return Run({.operation = Operation::kAllGather,
                .dtype = dtype,
                .send = &counts,
                .input = input,
                .output = output,
                .input_bytes = counts[rank()] * SizeOf(dtype),
                .output_bytes = counts.Total(size()) * SizeOf(dtype)});
  }
  absl::Status DoAllToAll(const void* input, const RankCounts& send, void* output,
                          const RankCounts& receive, DType dtype) override {
    return Run({.operation = Operation::kAllToAll,
                .dtype = dtype,
                .send = &send,
                .receive = &receive,
                .input = input,
                .output = output,
                .input_bytes = send.Total(size()) * SizeOf(dtype),
                .output_bytes = receive.Total(size()) * SizeOf(dtype)});
  }
  absl::Status DoBroadcast(void* data, std::int64_t count, DType dtype, int root) override {
    const std::int64_t bytes = count * SizeOf(dtype);
    return Run({.operation = Operation::kBroadcast,
                .count = count,
                .dtype = dtype,
                .parameter = root,
                .input = data,
                .output = data,
                .input_bytes = rank() == root ? bytes : 0,
                .output_bytes = rank() == root ? 0 : bytes});
  }
  absl::Status DoBarrier() override { return Run({.operation = Operation::kBarrier}); }

  absl::StatusOr<std::unique_ptr<Communicator>> DoSplit(int color, int key) override {
    SAE_RETURN_IF_ERROR(options_.runtime->Synchronize(options_.stream));
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, host_.Split(color, key));
    Communicator& host = *part;
    return Make(std::move(part), host, options_, enqueue_only_);
  }

 private:
  static void Callback(void* data) {
    auto* const step = static_cast<Step*>(data);
    step->owner->Execute(*step);
  }

  absl::Status Run(const Request& request) {
    SAE_ASSIGN_OR_RETURN(Step* const step, StepOf(request));
    DeviceRuntime& runtime = *options_.runtime;
    if (step->input_bytes > 0) {
      SAE_RETURN_IF_ERROR(
          runtime.CopyAsync(step->staged_input, step->input, step->input_bytes, options_.stream));
    }
    SAE_RETURN_IF_ERROR(runtime.HostCallback(&Callback, step, options_.stream));
    if (step->output_bytes > 0) {
      SAE_RETURN_IF_ERROR(runtime.CopyAsync(step->output, step->staged_output, step->output_bytes,
                                            options_.stream));
    }
    if (enqueue_only_) return absl::OkStatus();
    SAE_RETURN_IF_ERROR(Wait(NameOf(step->operation)));
    MutexLock lock(mu_);
    return std::exchange(first_failure_, absl::OkStatus());
  }

  /// The step of before when the same call is made again, as every training step makes them.
  absl::StatusOr<Step*> StepOf(const Request& request) {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const std::size_t at = (next_ + i) % steps_.size();
      if (!Is(*steps_[at], request) || steps_[at]->staged_output != staged_output_) continue;
      next_ = at + 1;
      return steps_[at].get();
    }
    SAE_RETURN_IF_ERROR(Grow(std::max(request.input_bytes, request.output_bytes)));
    auto step = std::make_unique<Step>();
    step->operation = request.operation;
    step->count = request.count;
    step->dtype = request.dtype;
    step->parameter = request.parameter;
    for (int r = 0; r < size(); ++r) {
      if (request.send != nullptr) step->send.push_back((*request.send)[r]);
      if (request.receive != nullptr) step->receive.push_back((*request.receive)[r]);
    }
    step->input = request.input;
    step->output = request.output;
    step->input_bytes = request.input_bytes;
    step->output_bytes = request.output_bytes;
    step->staged_input = request.input == request.output ? staged_output_ : staged_input_;
    step->staged_output = staged_output_;
    step->owner = this;
    steps_.push_back(std::move(step));
    next_ = steps_.size();
    return steps_.back().get();
  }

  /// Steps of before keep the memory that they know: a graph may hold them.
  absl::Status Grow(std::int64_t bytes) {
    if (bytes <= capacity_) return absl::OkStatus();
    const std::int64_t wanted = std::max(bytes, 2 * capacity_);
    for (char** memory : {&staged_input_, &staged_output_}) {
      SAE_ASSIGN_OR_RETURN(void* const made, options_.runtime->AllocatePinned(wanted));
      *memory = static_cast<char*>(made);
      pinned_.push_back(*memory);
    }
    capacity_ = wanted;
    return absl::OkStatus();
  }

  absl::Status OnHost(const Step& step) {
    const auto op = static_cast<ReduceOp>(step.parameter);
    char* const in = step.staged_input;
    char* const out = step.staged_output;
    switch (step.operation) {
      case Operation::kAllReduce:
        return host_.AllReduce(out, step.count, step.dtype, op);
      case Operation::kReduceScatter:
        return host_.ReduceScatter(in, out, step.count, step.dtype, op);
      case Operation::kAllGather:
        return host_.AllGatherV(in, out, step.send, step.dtype);
      case Operation::kAllToAll:
        return host_.AllToAllV(in, step.send, out, step.receive, step.dtype);
      case Operation::kBroadcast:
        return host_.Broadcast(out, step.count, step.dtype, step.parameter);
      case Operation::kBarrier:
        return host_.Barrier();
      case Operation::kSplit:
        break;
    }
    return absl::InternalError("staging: an operation that is not one of a stream");
  }

  absl::Status Wait(const char* operation) {
    DeviceRuntime& runtime = *options_.runtime;
    SAE_RETURN_IF_ERROR(runtime.RecordEvent(event_, options_.stream));
    Backoff backoff;
    for (;;) {
      SAE_ASSIGN_OR_RETURN(const bool done, runtime.QueryEvent(event_));
      if (done) return absl::OkStatus();
      if (backoff.waited() > options_.deadline) {
        const absl::Status late = absl::DeadlineExceededError(
            absl::StrCat(operation, ": the stream did not come to its end within ",
                         absl::FormatDuration(options_.deadline)));
        host_.Abort(Message(late));
        return late;
      }
      backoff.Pause();
    }
  }

  void Keep(const absl::Status& status) {
    MutexLock lock(mu_);
    if (first_failure_.ok()) first_failure_ = status;
  }

  const std::unique_ptr<Communicator> owned_;  // null when the host is borrowed
  Communicator& host_;
  StagingOptions options_;
  void* const event_;
  bool enqueue_only_ = false;
  std::vector<std::unique_ptr<Step>> steps_;
  std::size_t next_ = 0;
  std::vector<char*> pinned_;
  char* staged_input_ = nullptr;
  char* staged_output_ = nullptr;
  std::int64_t capacity_ = 0;
  Mutex mu_;
  absl::Status first_failure_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> StageThroughHost(std::unique_ptr<Communicator> host,
                                                               const StagingOptions& options) {
  Communicator& borrowed = *host;
  return Staged::Make(std::move(host), borrowed, options, false);
}

absl::StatusOr<std::unique_ptr<Communicator>> StageThroughHost(Communicator& host,
                                                               const StagingOptions& options) {
  return Staged::Make(nullptr, host, options, false);
}

}  // namespace sae::comm
