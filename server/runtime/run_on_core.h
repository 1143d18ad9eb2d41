#pragma once
// A question to the core from another thread that waits for the answer: at start and stop, never in
// a call.

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "sae/base/mutex.h"
#include "server/runtime/coordinator.h"

namespace sae::server {

/// What `task` returns on the core's thread. Not from that thread itself, which would wait for
/// ever.
template <typename T>
T RunOnCore(Coordinator& coordinator, std::function<T(Core&)> task) {
  struct Shared {
    Mutex mu;
    CondVar answered;
    std::optional<T> answer ABSL_GUARDED_BY(mu);
  };
  const auto shared = std::make_shared<Shared>();
  coordinator.Post([shared, task = std::move(task)](Core& core) {
    T answer = task(core);
    MutexLock lock(shared->mu);
    shared->answer.emplace(std::move(answer));
    shared->answered.NotifyAll();
  });
  MutexLock lock(shared->mu);
  while (!shared->answer) shared->answered.Wait(shared->mu);
  return *std::move(shared->answer);
}

}  // namespace sae::server
