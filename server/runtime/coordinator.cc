#include "server/runtime/coordinator.h"

#include <spdlog/spdlog.h>

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

absl::Duration Coordinator::Idle() {
  core_->Tick();
  for (const Hook& hook : hooks_) hook(*core_);
  return core_->NextDeadline() - clock_.SinceBoot();
}

void Coordinator::Stop() {
  slow_.Stop();
  queue_.Post([this] {
    hooks_.clear();
    if (const absl::Status status = core_->Flush(); !status.ok())
      spdlog::error("at stop: {}", Message(status));
  });
  queue_.Stop();
}

}  // namespace sae::server
