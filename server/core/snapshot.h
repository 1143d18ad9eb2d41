#pragma once
// The state as bytes: one part about all, for each sweep a head and parts of at most kPartTrials
// trials. Whoever adds a field to a record of state.h adds it in snapshot.cc, which does not
// compile otherwise; snapshots of another layout are then not used any more. Pure. Errors:
// DATA_LOSS for bytes that cannot be read.

#include <map>
#include <string>

#include "server/core/state.h"
#include "server/core/worker_health.h"

namespace sae::server {

class StateSnapshot {
 public:
  static constexpr int kPartTrials = 1024;

  /// Where the parts of one sweep are.
  struct SweepParts {
    std::int64_t cut = 0;  ///< of the snapshot that wrote them
    std::int64_t trials = 0;
  };
  using Index = std::map<std::string, SweepParts>;

  /// Equal for programs that can read each other's bytes.
  static std::string Layout();
  /// Parts of a sweep of `trials` trials: part 0 is the head.
  static int PartsOf(std::int64_t trials) {
    return 1 + static_cast<int>((trials + kPartTrials - 1) / kPartTrials);
  }
  /// The part that holds this trial.
  static int PartOf(int trial_index) { return 1 + trial_index / kPartTrials; }

  /// `health`, which is derived from the same events, may be null.
  static std::string EncodeState(const State& state, const Index& index,
                                 const WorkerHealth* health = nullptr);
  static std::string EncodePart(const SweepRecord& sweep, int part);

  /// What EncodeState wrote, into an empty state without sweeps.
  [[nodiscard]] static absl::Status DecodeState(const std::string& bytes, State& state,
                                                Index& index, WorkerHealth* health = nullptr);
  /// Parts of one sweep in order; after the last one the sweep is whole.
  [[nodiscard]] static absl::Status DecodePart(const std::string& bytes, const std::string& sweep,
                                               const SweepParts& parts, int part, State& state);
};

}  // namespace sae::server
