#pragma once
// A question to the core from another thread that waits for the answer: at start and stop, never in
// a call.

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "sae/base/mutex.h"
#include "server/runtime/coordinator.h"

namespace sae::server {

/// What `task` returns on the core's thread, once what it has changed is durable; a T that can be
/// an error says so when it may not be. Not from that thread itself, which would wait for ever.
template <typename T>
T RunOnCore(Coordinator& coordinator, std::function<T(Core&)> task) {
  struct Shared {
    Mutex mu;
    CondVar answered;
    std::optional<T> answer ABSL_GUARDED_BY(mu);
  };
  const auto shared = std::make_shared<Shared>();
  coordinator.Post([shared, &coordinator, task = std::move(task)](Core& core) {
    const auto answer = std::make_shared<T>(task(core));
    coordinator.WhenDurable([shared, answer](const absl::Status& durable) {
      if constexpr (std::is_constructible_v<T, absl::Status>) {
        if (!durable.ok()) *answer = T(durable);
      }
      MutexLock lock(shared->mu);
      shared->answer.emplace(std::move(*answer));
      shared->answered.NotifyAll();
    });
  });
  MutexLock lock(shared->mu);
  while (!shared->answer) shared->answered.Wait(shared->mu);
  return *std::move(shared->answer);
}

}  // namespace sae::server
