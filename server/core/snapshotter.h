#pragma once
// Takes snapshots of the state without stopping the core: a snapshot is of one moment (its cut),
// but its parts are written in slices, and a part that is about to change is encoded before it
// does. Sweeps that have not changed since their parts were written are not written again. Not
// thread-safe. A failure gives the snapshot up: the next one begins anew.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/core/snapshot.h"
#include "server/store/event_store.h"

namespace sae::server {

class Snapshotter {
 public:
  /// A snapshot is due after `every` events; 0 = never. All outlive it; `health` may be null.
  Snapshotter(EventStore& store, const State& state, std::int64_t every,
              const WorkerHealth* health = nullptr)
      : store_(store), state_(state), every_(every), health_(health) {}

  /// Restores `state` from the newest snapshot; returns its cut, 0 = there is none that can be used
  /// and `state` is empty.
  static std::int64_t Restore(EventStore& store, State& state, StateSnapshot::Index& index,
                              WorkerHealth* health = nullptr);
  /// As after construction.
  void Forget();
  /// At start: what Restore found.
  void Begin(StateSnapshot::Index index) { written_ = std::move(index); }

  /// `event` is about to be applied.
  void Before(const LogEvent& event);
  bool due() const { return every_ > 0 && events_ >= every_; }
  bool under_way() const { return cut_ > 0; }
  /// One slice, a few milliseconds.
  void Step();
  /// A whole snapshot, now; nothing when nothing has changed since the last.
  [[nodiscard]] absl::Status Finish();

 private:
  absl::Status Start();
  absl::Status Slice();
  void Encode(const SweepRecord& sweep, int part);
  void EncodeRest(const std::string& sweep);
  void GiveUp();

  EventStore& store_;
  const State& state_;
  const std::int64_t every_;
  const WorkerHealth* const health_;
  std::int64_t events_ = 0;        ///< since the cut of the last one
  StateSnapshot::Index written_;   ///< parts of the last complete one
  std::set<std::string> changed_;  ///< since then
  // Of the one under way.
  std::int64_t cut_ = 0;
  std::string body_;
  StateSnapshot::Index index_;
  std::map<std::string, std::set<int>> missing_;  ///< parts that are not encoded yet
  std::vector<SnapshotPart> encoded_;             ///< not yet in the store
};

}  // namespace sae::server
