#include "server/sim/coordinator_process.h"

#include <algorithm>

namespace sae::server::sim {

CoordinatorProcess::CoordinatorProcess(Options options, EventQueue& queue, SharedDisk& disk)
    : queue_(queue),
      clock_(queue, options.clock_rate, options.booted),
      store_(disk, queue, std::move(options.next_fault)) {}

std::shared_ptr<CoordinatorProcess> CoordinatorProcess::Start(Options options, EventQueue& queue,
                                                              SharedDisk& disk) {
  const CoreOptions core_options = options.core;
  std::shared_ptr<CoordinatorProcess> process(
      new CoordinatorProcess(std::move(options), queue, disk));
  auto core = Core::Start(core_options, process->clock_, process->store_);
  if (!core.ok()) return nullptr;
  process->core_ = *std::move(core);
  process->core_->AddObserver(process.get());
  process->Do([](Core&) {});
  return process;
}

void CoordinatorProcess::Do(std::function<void(Core&)> work) {
  if (!alive_) return;
  if (queue_.Now() < frozen_until_) {
    queue_.At(frozen_until_, [self = shared_from_this(), work = std::move(work)]() mutable {
      self->Do(std::move(work));
    });
    return;
  }
  work(*core_);
  core_->Tick();
  AfterWork();
}

void CoordinatorProcess::AfterWork() {
  if (store_.dead()) alive_ = false;
  if (!alive_) return;
  PushCommands();
  ScheduleTick();
}

void CoordinatorProcess::PushCommands() {
  const std::set<std::string> woken = std::exchange(woken_, {});
  for (const std::string& worker : woken) {
    const auto session = sessions_.find(worker);
    if (session == sessions_.end()) continue;
    const std::vector<Command> commands = core_->CommandsFor(worker);
    if (!commands.empty()) session->second(commands);
  }
}

void CoordinatorProcess::ScheduleTick() {
  const absl::Duration next = core_->NextDeadline();
  if (next == absl::InfiniteDuration()) return;
  // What is overdue and cannot be done now must not spin.
  const absl::Duration at = std::max(clock_.WorldTime(next), queue_.Now() + absl::Milliseconds(20));
  if (tick_at_ > queue_.Now() && tick_at_ <= at) return;
  tick_at_ = at;
  queue_.At(at, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Do([](Core&) {});
  });
}

}  // namespace sae::server::sim
