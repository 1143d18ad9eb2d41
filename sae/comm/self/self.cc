#include <cstring>

#include "sae/base/mutex.h"
#include "sae/comm/communicator.h"

namespace sae::comm {
namespace {

class Self final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  void Abort(const std::string& reason) override {
    MutexLock lock(mu_);
    if (aborted_.ok()) aborted_ = absl::AbortedError(absl::StrCat("rank 0: ", reason));
  }
  absl::Status Check() override {
    MutexLock lock(mu_);
    return aborted_;
  }

 protected:
  absl::Status DoAllReduce(void* data, std::int64_t count, DType dtype, ReduceOp) override {
    return Copy(data, data, count, dtype);
  }
  absl::Status DoReduceScatter(const void* input, void* output, std::int64_t count, DType dtype,
                               ReduceOp) override {
    return Copy(input, output, count, dtype);
  }
  absl::Status DoAllGather(const void* input, void* output, const RankCounts& counts,
                           DType dtype) override {
    return Copy(input, output, counts[0], dtype);
  }
  absl::Status DoAllToAll(const void* input, const RankCounts& send, void* output,
                          const RankCounts&, DType dtype) override {
    return Copy(input, output, send[0], dtype);
  }
  absl::Status DoBroadcast(void* data, std::int64_t count, DType dtype, int) override {
    return Copy(data, data, count, dtype);
  }
  absl::Status DoBarrier() override { return Check(); }
  absl::StatusOr<std::unique_ptr<Communicator>> DoSplit(int, int) override {
    SAE_RETURN_IF_ERROR(Check());
    return CreateSelf();
  }

 private:
  absl::Status Copy(const void* from, void* to, std::int64_t count, DType dtype) {
    SAE_RETURN_IF_ERROR(Check());
    const std::int64_t bytes = count * SizeOf(dtype);
    if (from != to && bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
    return absl::OkStatus();
  }

  Mutex mu_;
  absl::Status aborted_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<Communicator> CreateSelf() { return std::make_unique<Self>(); }

}  // namespace sae::comm
