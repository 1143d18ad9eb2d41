#include "worker/trainer/supervisor.h"

#include <spdlog/spdlog.h>

#include <csignal>
#include <utility>

namespace saeloom::trainer {

Supervisor::Supervisor(Options options) : options_(std::move(options)), thread_([this] { Loop(); }) {}

Supervisor::~Supervisor() {
  done_.store(true);
  thread_.join();
}

void Supervisor::OnSignal(int signal) {
  using sae::train::StopReason;
  const auto wish = signal == SIGUSR1 ? StopReason::kPreempt : StopReason::kTerminate;
  const auto before = static_cast<StopReason>(stop_.load());
  if (before == StopReason::kTerminate && wish == StopReason::kTerminate) {
    spdlog::error("signal {} again: ends without a checkpoint", signal);
    options_.end_now(128 + signal);
    return;
  }
  if (wish > before) stop_.store(static_cast<std::int32_t>(wish));
  spdlog::info("signal {}: will save a checkpoint and end at the next step", signal);
}

void Supervisor::Loop() {
  std::int64_t seen = 0;
  absl::Duration silent;
  while (!done_.load()) {
    if (const std::optional<int> signal = options_.signals->Wait(options_.tick)) {
      OnSignal(*signal);
      continue;
    }
    const std::int64_t now = progress_.load(std::memory_order_relaxed);
    silent = now == seen ? silent + options_.tick : absl::ZeroDuration();
    seen = now;
    if (silent < options_.no_progress) continue;
    options_.on_stuck(silent);
    return;
  }
}

}  // namespace saeloom::trainer
