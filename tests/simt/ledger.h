#pragma once
// Which barriers ran and which are deleted: the mutation tests' view of SAELOOM_BARRIER(id).
// Thread-safe.

#include <set>
#include <string>
#include <utility>

#include "sae/base/mutex.h"

namespace sae::simt {

/// File name without folder, and the id in it.
using BarrierId = std::pair<std::string, int>;

class BarrierLedger {
 public:
  /// From now on no thread waits at this barrier. Before any kernel runs.
  void Delete(const BarrierId& barrier) {
    MutexLock lock(mu_);
    deleted_.insert(barrier);
  }
  bool IsDeleted(const BarrierId& barrier) const {
    MutexLock lock(mu_);
    return deleted_.count(barrier) != 0;
  }
  void NoteExecuted(const BarrierId& barrier) {
    MutexLock lock(mu_);
    executed_.insert(barrier);
  }
  std::set<BarrierId> Executed() const {
    MutexLock lock(mu_);
    return executed_;
  }

 private:
  mutable Mutex mu_;
  std::set<BarrierId> deleted_ ABSL_GUARDED_BY(mu_);
  std::set<BarrierId> executed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::simt
