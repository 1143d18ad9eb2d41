#include "server/service/event_logger.h"

#include <spdlog/spdlog.h>

namespace sae::server {

void EventLogger::OnLifecycle(const LogEvent& event) {
  if (const auto* created = std::get_if<SweepCreated>(&event.body)) {
    spdlog::info("sweep {}: created with {} trials", event.sweep, created->points.size());
  } else if (const auto* changed = std::get_if<SweepChanged>(&event.body)) {
    spdlog::info("sweep {}: {}", event.sweep, ToString(changed->state));
  } else if (std::holds_alternative<CancelRequested>(event.body)) {
    spdlog::info("sweep {}: cancel asked for", event.sweep);
  } else if (const auto* allocated = std::get_if<AttemptAllocated>(&event.body)) {
    spdlog::info("trial {}/{}: attempt {} on worker {}, {} slots", event.sweep, event.trial,
                 allocated->attempt, allocated->worker, allocated->slots);
  } else if (const auto* running = std::get_if<AttemptRunning>(&event.body)) {
    spdlog::info("trial {}/{}: attempt {} trains from step {}", event.sweep, event.trial,
                 running->attempt, running->from_step);
  } else if (const auto* notice = std::get_if<Notice>(&event.body);
             notice != nullptr && event.trial.empty() && !event.sweep.empty()) {
    spdlog::warn("sweep {}: {}", event.sweep, notice->text);
  } else if (const auto* ended = std::get_if<AttemptEnded>(&event.body)) {
    spdlog::info("trial {}/{}: attempt {} {}; trial {}{}{}", event.sweep, event.trial,
                 ended->attempt, ended->outcome, ToString(ended->next),
                 ended->reason.empty() ? "" : ": ", ended->reason);
  }
}

void EventLogger::OnLeaseExpired(const std::string& worker) {
  spdlog::warn("worker {}: not heard of for its lease; its attempts are lost", worker);
}

}  // namespace sae::server
