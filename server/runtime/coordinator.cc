#include "server/runtime/coordinator.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

namespace sae::server {

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const Options& options,
                                                                Clock& clock,
                                                                std::unique_ptr<EventStore> store) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<Core> core, Core::Start(options.core, clock, *store));
  SAE_RETURN_IF_ERROR(store->DeferSync());
  return std::unique_ptr<Coordinator>(
      new Coordinator(options, clock, std::move(store), std::move(core)));
}

Coordinator::Coordinator(const Options& options, Clock& clock, std::unique_ptr<EventStore> store,
                         std::unique_ptr<Core> core)
    : options_(options),
      clock_(clock),
      store_(std::move(store)),
      core_(std::move(core)),
      queue_([this] { return Idle(); }, options.longest_wait) {}

void Coordinator::Post(std::function<void(Core&)> task) {
  queue_.Post([this, task = std::move(task)] { task(*core_); });
}

void Coordinator::AddHook(Hook hook) {
  Post([this, hook = std::move(hook)](Core&) mutable { hooks_.push_back(std::move(hook)); });
}

void Coordinator::AddTimedHook(TimedHook hook) {
  Post([this, hook = std::move(hook)](Core&) mutable { timed_hooks_.push_back(std::move(hook)); });
}

bool Coordinator::SyncAndTell() {
  const absl::Status durable = core_->Sync();
  for (const auto& tell : std::exchange(held_, {})) tell(durable);
  return !absl::IsUnavailable(core_->disk());
}

absl::Duration Coordinator::Idle() {
  // Before the log is read again: what was committed before the failure is synced, or may be lost.
  if (absl::IsUnavailable(core_->disk())) SyncAndTell();
  core_->Advance();
  const bool may_tell = SyncAndTell();
  if (absl::IsAborted(core_->disk()) && !std::exchange(taken_over_, true)) {
    spdlog::error("{}", Message(core_->disk()));
    if (options_.on_taken_over) options_.on_taken_over(core_->disk());
  }
  absl::Duration next = absl::InfiniteDuration();
  for (const Hook& hook : hooks_) hook(*core_);
  if (may_tell) {
    for (const TimedHook& hook : timed_hooks_) next = std::min(next, hook(*core_));
  }
  core_->MaintainStore();
  return std::min(next, core_->NextDeadline()) - clock_.SinceBoot();
}

void Coordinator::Stop() {
  slow_.Stop();
  queue_.Post([this] {
    hooks_.clear();
    timed_hooks_.clear();
    if (const absl::Status status = core_->Close(); !status.ok())
      spdlog::error("at stop: {}", Message(status));
  });
  queue_.Stop();
}

}  // namespace sae::server
