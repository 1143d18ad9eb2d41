#pragma once
// The daemon's log: one line for each change that an operator looks for. On the core's thread.

#include "server/core/observer.h"

namespace sae::server {

class EventLogger final : public CoreObserver {
 public:
  void OnLifecycle(const LogEvent& event) override;
  void OnLeaseExpired(const std::string& worker) override;
};

}  // namespace sae::server
