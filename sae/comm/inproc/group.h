#pragma once
// What the ranks of one in-process group share. An operation is: every rank posts its buffers and
// waits until all have (Enter), moves the data that is its part, reading the others' buffers
// directly, and waits until all have done so (Leave). Enter ends early by abort or deadline, and
// then for every rank; Leave always waits, for a rank that left could free a buffer that another
// still reads. Thread-safe. A failed group stays failed.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/dtype.h"
#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"
#include "sae/comm/rank_counts.h"

namespace sae::comm {

/// One rank's call. What the lists of counts point to stays until the call has returned.
struct Call {
  Operation operation = Operation::kBarrier;
  std::int64_t count = 0;
  DType dtype = DType::kU8;
  int parameter = 0;   ///< the reduction, or the root
  RankCounts send;     ///< kAllGather (the same on all ranks) and kAllToAll
  RankCounts receive;  ///< kAllToAll
  const void* input = nullptr;
  void* output = nullptr;
  int color = 0;  ///< kSplit only, each rank its own
  int key = 0;
};

class Group {
 public:
  Group(int size, absl::Duration deadline);
  int size() const { return size_; }

  /// Posts `call`. After OK, calls() may be read until Leave.
  [[nodiscard]] absl::Status Enter(int rank, const Call& call);
  const std::vector<Call>& calls() const { return calls_; }
  void Leave();
  void Abort(const std::string& reason);
  /// OK, or the error that ended the group.
  absl::Status Check();

  /// The group of `color`, one object for all its ranks; between Enter and Leave.
  std::shared_ptr<Group> Child(int color, int size);

 private:
  [[nodiscard]] absl::Status WaitForAll(std::uint64_t round, Operation operation)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status TimedOut(Operation operation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Complete() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int size_;
  const absl::Duration deadline_;
  Mutex mu_;
  CondVar changed_;
  // Not guarded: written under mu_ before a round completes, read without it until the round is
  // left.
  std::vector<Call> calls_;
  std::vector<char> present_ ABSL_GUARDED_BY(mu_);
  int arrived_ ABSL_GUARDED_BY(mu_) = 0;
  int inside_ ABSL_GUARDED_BY(mu_) = 0;  ///< ranks between Enter and the end of Leave
  std::uint64_t round_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status verdict_ ABSL_GUARDED_BY(mu_);  ///< of the last complete round: do the calls agree?
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
  std::map<int, std::shared_ptr<Group>> splitting_ ABSL_GUARDED_BY(mu_);
  std::vector<std::weak_ptr<Group>> children_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::comm
