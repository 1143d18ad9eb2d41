#pragma once
// People in a simulation: calls that are repeated with the same request id until an answer comes or
// patience ends, and watchers that read events, lose their connection and go on where they were.
// Not thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/sim/machine.h"

namespace sae::server::sim {

class Clients {
 public:
  explicit Clients(Surroundings& world) : world_(world) {}

  Link& link() { return link_; }
  /// One call: `run` is the handler; a repetition runs it again. It may fill the op's `trials`.
  void Call(ClientOp op, std::function<absl::Status(Core&, ClientOp&)> run);
  /// Follows a sweep for ever.
  void WatchSweep(const std::string& sweep);

 private:
  struct Pending;
  void Send(const std::shared_ptr<Pending>& call);
  void Finish(const std::shared_ptr<Pending>& call, const ClientOp& answered,
              const absl::Status& status);
  void Poll(std::size_t watch);

  Surroundings& world_;
  Link link_;
};

}  // namespace sae::server::sim
