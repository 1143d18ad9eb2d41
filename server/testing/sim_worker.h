#pragma once
// A worker in a simulation: its daemon, the processes it started and the disk they write, over a
// network that loses and repeats messages. What it holds as `running` is the ground truth that the
// coordinator can only guess. Deterministic; not thread-safe.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sae/base/random.h"
#include "sae/config/events.h"
#include "server/core/core.h"

namespace sae::server::testing {

/// One runs folder, which several workers may share.
struct SimDisk {
  std::string runs_id;
  std::map<std::pair<std::string, std::string>, std::int64_t>
      checkpoints;                                      ///< newest step of each trial
  std::map<AttemptKey, std::vector<std::string>> logs;  ///< events.jsonl
};

/// The world's rules, changed by the test as it goes.
struct SimWorld {
  Clock& clock;
  Random& random;
  absl::Duration lease;
  Core* core = nullptr;     ///< null while the coordinator is down
  double loss = 0;          ///< of each request and of each reply
  std::int64_t steps = 20;  ///< of a trial
  /// Requests that the network kept: delivered again later, from whoever sent them.
  std::vector<HeartbeatRequest> late_heartbeats;
  std::vector<ReportRequest> late_reports;

  bool Chance(double p) { return random.Uniform() < p; }
};

class SimWorker {
 public:
  SimWorker(SimWorld& world, std::string id, int slots, std::shared_ptr<SimDisk> disk)
      : world_(world), id_(std::move(id)), slots_(slots), disk_(std::move(disk)) {}

  /// A quarter of a second passes.
  void Tick();
  /// The daemon dies; its processes go on until their lease has passed.
  void Crash() { up_ = false; }
  /// A new daemon: ends the orphans that it finds.
  void Restart();
  /// The machine dies, for ever.
  void Die();
  bool up() const { return up_; }
  bool dead() const { return dead_; }

  /// Most trials that it started in one gang.
  std::size_t most_together() const { return most_together_; }
  int slots() const { return slots_; }
  int Used() const;
  /// Trials that have a process now.
  std::vector<AttemptKey> Running() const;

 private:
  struct Attempt {
    bool running = true;
    int slots = 1;      ///< of its gang
    AttemptKey gang;    ///< the first attempt's
    std::int64_t step = 0;
    absl::Duration lease_until;  ///< the file `lease`
    std::string verdict;
    int exit_code = 0;
    bool refused = false;
    bool told = false;     ///< its end was acknowledged: nothing more to say
    bool foreign = false;  ///< older, of a trial that goes on here: only its lines are told
    std::int64_t acknowledged = 0;
    std::int64_t status_id = 0;
  };
  void Say(const AttemptKey& key, Attempt& attempt, config::EventKind kind,
           std::int64_t from_step = 0);
  void Run(const AttemptKey& key, Attempt& attempt);
  void Start(const StartCommand& command);
  void StartOne(const StartCommand& command, const AttemptKey& gang, bool fits);
  void TellOlder(const AttemptKey& key);
  void Register();
  void Heartbeat();
  void ReportLines(const AttemptKey& key, Attempt& attempt);
  Sender Me() const { return {id_, std::to_string(incarnation_), epoch_}; }

  SimWorld& world_;
  const std::string id_;
  const int slots_;
  std::shared_ptr<SimDisk> disk_;  // shared with other workers
  std::size_t most_together_ = 0;
  bool up_ = true;
  bool dead_ = false;
  bool registered_ = false;
  int incarnation_ = 1;
  std::int64_t epoch_ = 0;
  std::int64_t heartbeat_ = 0;
  std::int64_t status_ids_ = 0;
  absl::Duration next_heartbeat_;
  std::map<AttemptKey, Attempt> attempts_;
};

}  // namespace sae::server::testing
