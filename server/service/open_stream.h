#pragma once
// The gate for streams of people: one is admitted, counted while it is open, and ended when its
// token is not good any more. No gRPC in here.

#include <functional>
#include <memory>

#include "sae/base/mutex.h"
#include "server/service/hubs.h"

namespace sae::server {

/// A place for the stream's ticket, which is there only once the stream was let through.
/// Thread-safe.
class StreamTicket {
 public:
  void Put(std::shared_ptr<StreamRegistry::Ticket> ticket) {
    MutexLock lock(mu_);
    if (!closed_) ticket_ = std::move(ticket);
  }
  /// The stream has ended.
  void Close() {
    std::shared_ptr<StreamRegistry::Ticket> ticket;  // freed without the lock
    MutexLock lock(mu_);
    closed_ = true;
    ticket = std::move(ticket_);
  }

 private:
  Mutex mu_;
  std::shared_ptr<StreamRegistry::Ticket> ticket_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

/// `end` as StreamRegistry::Open's.
[[nodiscard]] inline absl::Status OpenStream(ServiceContext& context, CallFacts facts,
                                             std::function<void(const absl::Status&)> end,
                                             StreamTicket& ticket) {
  SAE_ASSIGN_OR_RETURN(const auto admitted, context.gate.Admit(std::move(facts)));
  SAE_ASSIGN_OR_RETURN(auto open, context.gate.streams().Open(admitted->caller, std::move(end)));
  ticket.Put(std::move(open));
  return absl::OkStatus();
}

}  // namespace sae::server
