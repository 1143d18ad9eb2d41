#pragma once
// A worker's machine in a simulation: its daemon, the processes it started and the disk they write.
// The daemon can crash (its processes go on), pause, and come back; the machine can reboot (its
// processes are gone, the disk stays) or die. What the processes do is the ground truth, which goes
// to the history; what the daemon believes is only what it was told. The daemon's rules are those
// of worker/agent. Not thread-safe.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sae/config/events.h"
#include "server/sim/history.h"
#include "server/sim/network.h"

namespace sae::server::sim {

/// One runs folder, which several machines may share.
struct RunsDisk {
  std::string runs_id;
  std::map<std::pair<std::string, std::string>, std::int64_t> checkpoints;  ///< newest step
  std::set<AttemptKey> attempts;  ///< that have a folder in it
};

class Machine;

/// What machines share: the world's services and its rules.
struct Surroundings {
  EventQueue& queue;
  Random& random;
  Network& network;
  History& history;
  absl::Duration lease;
  absl::Duration heartbeat;
  std::int64_t steps = 12;  ///< of a trial
  double far = 1;           ///< a step over several machines takes so many times as long
  double die = 0;           ///< chance a step that the processes are killed
  double fail = 0;          ///< that the trainer says it failed
  double hang = 0;
  double refuse = 0;                              ///< that a machine refuses its part of a gang
  double unreachable = 0;                         ///< that a gang's head does not reach a peer
  std::function<void(const std::string&)> trace;  ///< empty: none
  std::map<std::string, Machine*> fleet;          ///< by id

  bool Chance(double p) { return random.Uniform() < p; }
  absl::Duration Upto(absl::Duration most) { return most * random.Uniform(); }
};

struct MachineOptions {
  std::string id;
  int slots = 2;
  std::shared_ptr<RunsDisk> disk;  ///< shared with other machines
  bool peers = false;              ///< takes part in gangs over several workers
  double clock_rate = 1;
  absl::Duration booted;
};

class Machine {
 public:
  Machine(Surroundings& world, MachineOptions options);

  // Faults.
  void CrashDaemon();
  /// A new daemon; `adopts`: goes on with the processes it finds, else ends them.
  void StartDaemon(bool adopts);
  void PauseDaemon(absl::Duration until) { paused_until_ = std::max(paused_until_, until); }
  /// All processes end, the daemon too; StartDaemon brings it up as a new incarnation.
  void Reboot();
  void Die();
  /// The folders of attempts vanish while the daemon is down.
  void LoseRecords();
  /// Kills the processes of one running gang, or of one's part here.
  void KillGang();

  const std::string& id() const { return id_; }
  bool up() const { return up_; }
  bool dead() const { return dead_; }
  int slots() const { return slots_; }
  bool peers() const { return peers_; }
  Link& link() { return link_; }
  int Used() const;
  /// Of a gang that has ranks here, the machine of its head; null = there is none.
  Machine* HeadElsewhere() const;
  /// Attempts that have processes here now.
  std::vector<AttemptKey> Running() const;

 private:
  /// The processes of one attempt.
  struct Life {
    AttemptKey gang;
    int slots = 1;
    std::int64_t step = 0;
    bool running = true;
    bool hung = false;
    bool noticed = false;        ///< asked to save and yield
    absl::Duration lease_until;  ///< the file `lease`, by this machine's clock
    absl::Duration kill_at = absl::InfiniteDuration();
    absl::Duration hung_since;
    int exit_code = 0;
    std::string verdict;
    FailureClass failure_class = FailureClass::kUnspecified;
    std::size_t history = 0;      ///< index of its ProcessLife
    std::vector<Machine*> peers;  ///< where the gang has ranks, too
  };
  /// Slots held for a gang over several workers.
  struct Held {
    int slots = 0;
    std::string token;
    bool told = false;  ///< the coordinator has heard of it
    std::int64_t status_id = 0;
    Machine* head = nullptr;  ///< whose ranks run here; null = none do
    std::size_t history = 0;  ///< with it: index of the ProcessLife here
  };
  /// What the daemon holds of an attempt.
  struct Entry {
    bool refused = false;
    bool nothing = false;   ///< asked to stop what is not here
    bool unwanted = false;  ///< given up by the coordinator: its end is not told
    bool foreign = false;   ///< older: only its lines are told
    bool starting_told = false;
    std::string reason;
    FailureClass failure_class = FailureClass::kUnspecified;  ///< with nothing
    std::int64_t acknowledged = 0;
    absl::Duration report_sent = -absl::InfiniteDuration();
    std::int64_t status_id = 0;  ///< of its end
    std::int64_t starting_id = 0;
  };
  using Trial = std::pair<std::string, std::string>;

  // machine.cc: processes
  absl::Duration Local() const { return booted_ + world_.queue.Now() * clock_rate_; }
  void Say(const AttemptKey& key, Life& life, config::EventKind kind, std::int64_t from_step = 0);
  void End(const AttemptKey& key, Life& life, int exit_code);
  void Step(const AttemptKey& key, std::size_t of);
  void StepLater(const AttemptKey& key);
  void Begin(const AttemptKey& key, Life& life);
  void Train(const AttemptKey& key, Life& life);
  std::vector<std::string>& Lines(const AttemptKey& key) { return world_.history.lines[key]; }
  // machine_daemon.cc
  void Tick();
  void TickLater();
  void WatchProcesses();
  void Handle(const Command& command);
  void Start(const StartCommand& command);
  void StartOne(const StartCommand& command, const AttemptKey& gang, bool fits);
  void Stop(const StopCommand& command);
  void EndOlder(const AttemptKey& key);
  void Close(const AttemptKey& key);
  bool Told(const AttemptKey& key, const Entry& entry);
  bool OlderTold(const AttemptKey& key);
  // machine_gang.cc
  void Prepare(const PrepareCommand& command);
  void Release(const ReleaseCommand& command);
  void SayNothing(const AttemptKey& key, FailureClass failure = FailureClass::kUnspecified);
  void EndHeld(const AttemptKey& key);
  void EndAllHeld();
  void EndPart(const AttemptKey& key);
  bool Enter(const AttemptKey& key, const std::string& token, Machine* head);
  void Join(const AttemptKey& key, std::size_t of, const StartCommand& command);
  void LosePeer(const AttemptKey& key, Machine* peer);
  void EndPeers(const AttemptKey& key, Life& life);
  void NoticeHeads();
  // machine_session.cc
  void Register();
  void Registered(const RegisterReply& reply, absl::Duration sent);
  void Heartbeat();
  void Answered(const HeartbeatReply& reply, absl::Duration sent);
  std::vector<AttemptStatus> Statuses();
  void Report(const AttemptKey& key, Entry& entry);
  void Reported(const AttemptKey& key, const absl::StatusOr<std::int64_t>& reply);
  void Reregister();
  Sender Me() const { return {id_, std::to_string(incarnation_), epoch_}; }
  void Trace(const std::string& what) const {
    if (world_.trace) world_.trace(id_ + ": " + what);
  }

  Surroundings& world_;
  const std::string id_;
  const int slots_;
  const bool peers_;
  std::shared_ptr<RunsDisk> disk_;  // shared with other machines
  const double clock_rate_;
  const absl::Duration booted_;
  Link link_;
  bool up_ = false;
  bool dead_ = false;
  bool powered_ = true;
  absl::Duration paused_until_;
  int boots_ = 1;
  int incarnation_ = 0;

  std::map<AttemptKey, Life> lives_;  ///< of this boot
  std::set<AttemptKey> open_;         ///< on its disk: the end is not acknowledged

  // The daemon's memory.
  std::map<AttemptKey, Entry> entries_;
  std::map<AttemptKey, Held> held_;
  std::set<AttemptKey> closed_;
  std::int64_t session_ = 0;  ///< counts registrations, of all incarnations
  bool registered_ = false;
  std::shared_ptr<Stream> stream_up_, stream_down_;  // shared with messages on their way
  absl::Duration register_sent_ = -absl::InfiniteDuration();
  std::int64_t epoch_ = 0;
  std::int64_t heartbeat_ = 0;
  std::int64_t status_ids_ = 0;
  absl::Duration next_heartbeat_;
  absl::Duration last_answer_;  ///< by this machine's clock, as all below
  absl::Duration lease_from_ = -absl::InfiniteDuration();
};

}  // namespace sae::server::sim
