#include <cstring>

#include "sae/base/mutex.h"
#include "sae/comm/arguments.h"
#include "sae/comm/communicator.h"

namespace sae::comm {
namespace {

class Self final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduce(void* data, std::int64_t count, DType dtype, ReduceOp) override {
    SAE_RETURN_IF_ERROR(CheckBuffer("AllReduce", data, count));
    return Copy(data, data, count, dtype);
  }
  absl::Status ReduceScatter(const void* input, void* output, std::int64_t count, DType dtype,
                             ReduceOp) override {
    SAE_RETURN_IF_ERROR(CheckBuffer("ReduceScatter", input, count));
    SAE_RETURN_IF_ERROR(CheckBuffer("ReduceScatter", output, count));
    return Copy(input, output, count, dtype);
  }
  absl::Status AllGatherV(const void* input, void* output, std::span<const std::int64_t> counts,
                          DType dtype) override {
    SAE_RETURN_IF_ERROR(CheckCounts(counts, 1));
    SAE_RETURN_IF_ERROR(CheckBuffer("AllGatherV", input, counts[0]));
    SAE_RETURN_IF_ERROR(CheckBuffer("AllGatherV", output, counts[0]));
    return Copy(input, output, counts[0], dtype);
  }
  absl::Status AllToAll(const void* input, void* output, std::int64_t count, DType dtype) override {
    SAE_RETURN_IF_ERROR(CheckBuffer("AllToAll", input, count));
    SAE_RETURN_IF_ERROR(CheckBuffer("AllToAll", output, count));
    return Copy(input, output, count, dtype);
  }
  absl::Status Broadcast(void* data, std::int64_t count, DType dtype, int root) override {
    SAE_RETURN_IF_ERROR(CheckRoot(root, 1));
    SAE_RETURN_IF_ERROR(CheckBuffer("Broadcast", data, count));
    return Copy(data, data, count, dtype);
  }
  absl::Status Barrier() override { return Copy(nullptr, nullptr, 0, DType::kU8); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color, int) override {
    SAE_RETURN_IF_ERROR(CheckColor(color));
    SAE_RETURN_IF_ERROR(Barrier());
    return CreateSelf();
  }

  void Abort(const std::string& reason) override {
    MutexLock lock(mu_);
    if (aborted_.ok()) aborted_ = absl::AbortedError(absl::StrCat("rank 0: ", reason));
  }
  std::int64_t bytes_sent() const override { return bytes_sent_; }

 private:
  absl::Status Copy(const void* from, void* to, std::int64_t count, DType dtype) {
    {
      MutexLock lock(mu_);
      SAE_RETURN_IF_ERROR(aborted_);
    }
    const std::int64_t bytes = count * SizeOf(dtype);
    bytes_sent_ += bytes;
    if (from != to && bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
    return absl::OkStatus();
  }

  Mutex mu_;
  absl::Status aborted_ ABSL_GUARDED_BY(mu_);
  std::int64_t bytes_sent_ = 0;
};

}  // namespace

std::unique_ptr<Communicator> CreateSelf() { return std::make_unique<Self>(); }

}  // namespace sae::comm
