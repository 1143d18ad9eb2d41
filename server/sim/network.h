#pragma once
// Messages between machines or clients and whichever coordinator answers at its address. Each link
// may be cut in one direction or both, lose, delay and repeat messages. Messages of a stream keep
// their order, and none follows one that was lost; all others overtake each other freely. Not
// thread-safe.

#include <functional>
#include <memory>
#include <utility>

#include "sae/base/random.h"
#include "server/sim/coordinator_process.h"

namespace sae::server::sim {

struct Link {
  bool up = true;    ///< towards the coordinator
  bool down = true;  ///< from it
  double loss = 0;
  double repeat = 0;    ///< of a message outside streams
  absl::Duration slow;  ///< added, uniformly from 0 to this
  /// Connections still lead to this one, while it lives.
  std::weak_ptr<CoordinatorProcess> stuck_to;
};

/// One direction of a stream.
struct Stream {
  absl::Duration last;
  bool broken = false;
};

class Network {
 public:
  Network(EventQueue& queue, Random& random) : queue_(queue), random_(random) {}

  void SetCoordinator(std::shared_ptr<CoordinatorProcess> newest) { newest_ = std::move(newest); }

  using ToCoordinator = std::function<void(const std::shared_ptr<CoordinatorProcess>&)>;
  void Up(const Link& link, const std::shared_ptr<Stream>& stream, ToCoordinator deliver) {
    std::shared_ptr<CoordinatorProcess> to = link.stuck_to.lock();
    if (to == nullptr || !to->alive()) to = newest_;
    if (to == nullptr || !to->alive() || !link.up || Lost(link, stream)) return Break(stream);
    const int copies = stream == nullptr && random_.Uniform() < link.repeat ? 2 : 1;
    for (int i = 0; i < copies; ++i)
      queue_.At(Arrival(link, stream), [to, deliver] { deliver(to); });
  }
  void Down(const Link& link, const std::shared_ptr<Stream>& stream,
            std::function<void()> deliver) {
    if (!link.down || Lost(link, stream)) return Break(stream);
    queue_.At(Arrival(link, stream), std::move(deliver));
  }

 private:
  static void Break(const std::shared_ptr<Stream>& stream) {
    if (stream != nullptr) stream->broken = true;
  }
  bool Lost(const Link& link, const std::shared_ptr<Stream>& stream) {
    return (stream != nullptr && stream->broken) || random_.Uniform() < link.loss;
  }
  absl::Duration Arrival(const Link& link, const std::shared_ptr<Stream>& stream) {
    absl::Duration at = queue_.Now() + absl::Milliseconds(1 + 10 * random_.Uniform()) +
                        link.slow * random_.Uniform();
    if (stream == nullptr) return at;
    at = std::max(at, stream->last);
    return stream->last = at;
  }

  EventQueue& queue_;
  Random& random_;
  std::shared_ptr<CoordinatorProcess> newest_;  // shared with messages on their way
};

}  // namespace sae::server::sim
