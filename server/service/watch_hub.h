#pragma once
// Readers of sweeps' event streams. Each is a cursor over the log: nothing is queued for a reader
// that does not read. All members run on the core's thread (post to it); writers may be fed from
// there.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"
#include "server/service/sink.h"

namespace sae::server {

class WatchHub {
 public:
  using Out = Sink<saeloom::v1::SweepEvent>;
  struct Stats {
    std::int64_t streams = 0;
    std::int64_t largest_lag = 0;
    std::int64_t sent = 0;  ///< events, since the start
  };

  /// Idle streams get a heartbeat this often.
  explicit WatchHub(absl::Duration heartbeat) : heartbeat_(heartbeat) {}

  /// NOT_FOUND for an unknown sweep and OUT_OF_RANGE for a cursor beyond its head end the stream.
  void Add(Core& core, std::int64_t id, const std::string& sweep, std::int64_t after_seq,
           std::shared_ptr<Out> out);
  /// The reader has taken what it was given.
  void Hungry(std::int64_t id);
  void Remove(std::int64_t id) { readers_.erase(id); }
  /// Feeds those that can be fed.
  void Poll(Core& core, absl::Duration now);
  /// Ends all streams and those to come: UNAVAILABLE, so that clients resume elsewhere or later.
  void Drain();
  Stats stats() const { return stats_; }

 private:
  struct Reader {
    std::string sweep;
    std::int64_t cursor = 0;
    bool hungry = true;
    absl::Duration last_sent;
    std::shared_ptr<Out> out;  // shared with what carries it, which may end at any time
  };
  void Feed(Core& core, Reader& reader, absl::Duration now);

  const absl::Duration heartbeat_;
  std::map<std::int64_t, Reader> readers_;
  Stats stats_;
  bool draining_ = false;
};

}  // namespace sae::server
