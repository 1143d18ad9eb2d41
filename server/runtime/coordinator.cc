#include "server/runtime/coordinator.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

namespace sae::server {

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const Options& options,
                                                                Clock& clock,
                                                                std::unique_ptr<EventStore> store) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<Core> core, Core::Start(options.core, clock, *store));
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

absl::Duration Coordinator::Idle() {
  core_->Tick();
  if (absl::IsAborted(core_->disk()) && !std::exchange(taken_over_, true)) {
    spdlog::error("{}", Message(core_->disk()));
    if (options_.on_taken_over) options_.on_taken_over(core_->disk());
  }
  for (const Hook& hook : hooks_) hook(*core_);
  absl::Duration next = core_->NextDeadline();
  for (const TimedHook& hook : timed_hooks_) next = std::min(next, hook(*core_));
  return next - clock_.SinceBoot();
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
