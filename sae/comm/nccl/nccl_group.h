#pragma once
// One ncclComm_t, non-blocking, with a deadline and one failure that stays. Private to the backend:
// it shows NCCL's types. Enqueue, Wait and Split come from one thread; Abort and Check from any.
// Owns the communicator and an event; aborts or finalises in the destructor, within the deadline. A
// part holds its whole alive, and fails with it.

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/functional/function_ref.h"
#include <nccl.h>

#include "sae/base/mutex.h"
#include "sae/comm/nccl/nccl.h"

namespace sae::comm {

class NcclGroup {
 public:
  static absl::StatusOr<std::shared_ptr<NcclGroup>> Create(const NcclOptions& options);
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  int rank() const { return options_.rank; }
  int size() const { return options_.size; }
  DeviceRuntime& runtime() { return *options_.runtime; }

  /// Hands `call` the communicator, and waits until NCCL has taken in what it enqueued.
  [[nodiscard]] absl::Status Enqueue(const char* operation,
                                     absl::FunctionRef<ncclResult_t(ncclComm_t)> call);
  /// Until all that is in `stream` now is done.
  [[nodiscard]] absl::Status Wait(const char* operation, void* stream);
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<NcclGroup>> Split(
      const std::shared_ptr<NcclGroup>& whole, int color, int key);
  void Abort(const std::string& reason);
  [[nodiscard]] absl::Status Check();
  /// For the start of an operation: a failure that this rank knew of is ABORTED.
  [[nodiscard]] absl::Status CheckBefore(const char* operation);

 private:
  explicit NcclGroup(const NcclOptions& options) : options_(options) {}

  absl::Status Start();
  /// Polls until NCCL is out of ncclInProgress, whatever the call returned, and `made`, unless
  /// null, holds a communicator.
  absl::Status Settle(const char* operation, ncclResult_t result, absl::Duration deadline,
                      ncclComm_t* made);
  /// A new communicator, the caller's.
  absl::StatusOr<ncclComm_t> SplitOff(int color, int key);
  /// The state of the communicator now; ncclSuccess when it is gone, for then failed_ says why.
  ncclResult_t AsyncError();
  absl::Status TimedOut(const char* operation, absl::Duration deadline);
  absl::Status Failed(const char* operation, ncclResult_t result);
  /// The roll call of this group's ranks, of which each rank makes one.
  absl::Status RollCall();
  std::string RollKey() const { return options_.name + ".stuck"; }
  /// Answers the roll calls of this group and its wholes; DEADLINE_EXCEEDED names who did not, from
  /// then on.
  absl::Status AnswerCalls(const char* operation);
  /// Not a part that is still being made, which has no rendezvous of its own.
  bool made() const { return whole_ == nullptr || part_rendezvous_ != nullptr; }
  /// Keeps `status` when it is the first, aborts NCCL's communicator, and returns the first. From
  /// any thread.
  absl::Status Record(absl::Status status);
  /// The same, and waits for the stream: from the thread that calls operations, whose the stream
  /// is.
  absl::Status Fail(absl::Status status);
  /// Aborts NCCL's communicator, on a thread of its own that may go on after it: NCCL comes back
  /// only when all graphs that hold its operations are gone, and their owner must hear of the
  /// failure before.
  void Kill();
  /// Waits for the thread that Kill left, but not for ever.
  void AwaitKill();
  void Join();
  absl::Status LocalFailure();
  /// LocalFailure, and the abort notes of the rendezvous.
  absl::Status Heard();
  /// The same now and then, with the roll calls: from the thread that calls operations.
  absl::Status Listen(const char* operation);

  NcclOptions options_;
  std::shared_ptr<NcclGroup> whole_;
  std::unique_ptr<Rendezvous> part_rendezvous_;  // options_.rendezvous of a part
  void* event_ = nullptr;
  void* waited_ = nullptr;  // the stream to wait for after an abort, or null

  Mutex calls_;  // around calls of NCCL on this communicator, which are short
  ncclComm_t comm_ ABSL_GUARDED_BY(calls_) = nullptr;
  // Where NCCL stores what it splits off, also when that fails; from its thread, so that this lives
  // until the split has ended or was aborted. Whoever takes it owns the communicator.
  std::shared_ptr<ncclComm_t> unborn_ ABSL_GUARDED_BY(calls_);
  std::thread killer_ ABSL_GUARDED_BY(calls_);
  const std::shared_ptr<std::atomic<bool>> killed_ = std::make_shared<std::atomic<bool>>(false);
  Mutex state_;
  absl::Status failed_ ABSL_GUARDED_BY(state_);
  // Of the thread that calls operations: when the rendezvous was asked last, what the roll call
  // said.
  absl::Duration asked_;
  std::optional<absl::Status> roll_;
};

/// `what: text`, with the code that fits.
absl::Status FromNccl(const std::string& what, ncclResult_t result, const char* detail);

}  // namespace sae::comm
