#pragma once
// The core on its own thread. Everything that touches it is posted; nothing else locks.
// Thread-safe. Owns the core, the store and two threads: the core's, and one for slow pure work
// (expanding sweeps). The core's thread goes in turns: what was posted, for some milliseconds at
// most; what is due; one sync of the store for all of that; only then what it has made durable is
// told to anybody: answers (WhenDurable), then the hooks, who tell workers and readers.

#include <functional>
#include <memory>
#include <vector>

#include "server/core/core.h"
#include "server/runtime/task_queue.h"

namespace sae::server {

class Coordinator {
 public:
  struct Options {
    CoreOptions core;
    /// How long the core's thread sleeps at most: how late it sees an injected clock move.
    absl::Duration longest_wait = absl::Seconds(1);
    /// Called once, on the core's thread, when another coordinator has taken the store over: the
    /// process must end with this status. May be empty.
    std::function<void(const absl::Status&)> on_taken_over = nullptr;
  };
  /// Called on the core's thread at the end of each turn. While core.disk() is UNAVAILABLE, what
  /// the core says may be lost: tell nobody.
  using Hook = std::function<void(Core&)>;
  /// As Hook, but not called while core.disk() is UNAVAILABLE; returns when it wants to be called
  /// again at the latest (SinceBoot).
  using TimedHook = std::function<absl::Duration(Core&)>;

  /// Replays the log; `clock` outlives it.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Coordinator>> Start(
      const Options& options, Clock& clock, std::unique_ptr<EventStore> store);
  ~Coordinator() { Stop(); }

  /// Runs `task` on the core's thread, soon.
  void Post(std::function<void(Core&)> task);
  /// On the core's thread: calls `tell` at the end of the turn, with OK when all that was committed
  /// before is durable, else with why it may not be. Nothing that a commit has changed may be told
  /// outside but so, or by a hook.
  void WhenDurable(std::function<void(const absl::Status&)> tell) {
    held_.push_back(std::move(tell));
  }
  /// Runs `task` on the thread for slow work.
  void PostSlow(std::function<void()> task) { slow_.Post(std::move(task)); }
  void AddHook(Hook hook);
  void AddTimedHook(TimedHook hook);
  /// Runs what was posted, makes durable what waits, takes a snapshot, ends the threads.
  /// Idempotent.
  void Stop();

  const Options& options() const { return options_; }
  Clock& clock() { return clock_; }
  EventStore& store() { return *store_; }  ///< on the core's thread only

 private:
  Coordinator(const Options& options, Clock& clock, std::unique_ptr<EventStore> store,
              std::unique_ptr<Core> core);
  absl::Duration Idle();
  /// False when hooks must not tell anybody of the core's state.
  bool SyncAndTell();

  const Options options_;
  Clock& clock_;
  std::unique_ptr<EventStore> store_;
  std::unique_ptr<Core> core_;
  std::vector<Hook> hooks_;                                     // of the core's thread
  std::vector<TimedHook> timed_hooks_;                          // likewise
  bool taken_over_ = false;                                     // likewise
  std::vector<std::function<void(const absl::Status&)>> held_;  // likewise
  TaskQueue slow_;
  TaskQueue queue_;  // last: its thread uses all above
};

}  // namespace sae::server
