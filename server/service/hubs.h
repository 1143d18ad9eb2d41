#pragma once
// The streams of one coordinator, used on the core's thread, and what all services share.

#include <atomic>

#include "server/runtime/coordinator.h"
#include "server/service/gate.h"
#include "server/service/log_broker.h"
#include "server/service/rpc_observer.h"
#include "server/service/session_hub.h"
#include "server/service/watch_hub.h"

namespace sae::server {

struct Hubs {
  explicit Hubs(WatchHub::Options options) : watch(options), logs(sessions) {}
  WatchHub watch;
  SessionHub sessions;
  LogBroker logs;
};

/// All outlive the services.
struct ServiceContext {
  Coordinator& coordinator;
  Hubs& hubs;
  RpcObserver& rpcs;
  Gate& gate;
  std::string trust_domain;  ///< of workers' certificates
  std::atomic<std::int64_t> next_stream{1};
};

}  // namespace sae::server
