#pragma once
// A core whose trial 0 is brought to any situation that a verb can meet. Not thread-safe.

#include "server/testing/core_fixture.h"

namespace sae::server::testing {

/// Of trial 0; the sweep "s" has two trials and its worker "w" one slot.
enum class Situation {
  kPending,
  kUnsent,  ///< ALLOCATED, and no worker has heard of it
  kAllocated,
  kStarting,
  kRunning,
  kPausing,
  kPreempting,  ///< its sweep was paused
  kStopping,
  kCancelling,
  kPaused,
  kSucceeded,
  kStoppedEarly,
  kFailed,
  kCancelled,
};
inline constexpr Situation kAllSituations[] = {
    Situation::kPending,    Situation::kUnsent,    Situation::kAllocated,  Situation::kStarting,
    Situation::kRunning,    Situation::kPausing,   Situation::kPreempting, Situation::kStopping,
    Situation::kCancelling, Situation::kPaused,    Situation::kSucceeded,  Situation::kStoppedEarly,
    Situation::kFailed,     Situation::kCancelled,
};

class LifecycleTest : public CoreTest {
 protected:
  using St = AttemptStatus::State;

  /// Over an empty disk.
  void Fresh() {
    core_.reset();
    disk_ = std::make_shared<MemoryStore::Disk>();
    Restart();
  }
  void Bring(Situation situation) {
    Create(MakeSpec("s", 2));
    if (situation == Situation::kPending) return;
    Register(Registration("w", 1));
    if (situation == Situation::kUnsent) return;
    core_->CommandsFor("w");
    if (situation == Situation::kAllocated) return;
    ASSERT_TRUE(Beat("w", {Status("0000", 1, St::kStarting)}).ok());
    if (situation == Situation::kStarting) return;
    ASSERT_TRUE(Report("w", {"s", "0000", 1}, 1, {Line(1, config::EventKind::kStarted)}).ok());
    if (situation == Situation::kRunning) return;
    BringFurther(situation);
  }
  void Ask(TrialVerb verb, absl::StatusCode code = absl::StatusCode::kOk) {
    EXPECT_EQ(core_->ChangeTrial(verb, "s", "0000", {}).code(), code);
  }
  void End(int exit_code, const std::string& verdict) {
    const int attempt = static_cast<int>(Trial(0).attempts.size());
    ASSERT_TRUE(Beat("w", {Ended("0000", attempt, exit_code, verdict)}).ok());
  }
  /// "PENDING", "CHECKPOINTING/pause".
  std::string StateText() const {
    const TrialRecord& trial = Trial(0);
    const bool stopping = trial.state == TrialState::kCheckpointing;
    return ToString(trial.state) +
           (stopping ? "/" + ToString(trial.attempts.back().stop_wanted) : "");
  }
  std::int64_t Events() const { return static_cast<std::int64_t>(disk_->log.size()); }
  /// The stop commands that worker "w" gets now.
  std::vector<StopCommand> Stops() {
    std::vector<StopCommand> out;
    for (const Command& command : core_->CommandsFor("w")) {
      if (const auto* stop = std::get_if<StopCommand>(&command)) out.push_back(*stop);
    }
    return out;
  }
  /// A replay gives the same state, and no event was refused.
  void CheckReplay() {
    EXPECT_EQ(core_->refused_events(), 0);
    MemoryStore store(disk_);
    const auto replayed = Core::Start(options_, clock_, store);
    ASSERT_TRUE(replayed.ok()) << replayed.status();
    EXPECT_EQ((*replayed)->state().DebugString(), core_->state().DebugString());
    EXPECT_EQ((*replayed)->refused_events(), 0);
    for (const std::string& name : core_->state().sweep_order())
      EXPECT_EQ((*replayed)->head(name), core_->head(name));
    --disk_->epoch;  // the core under test goes on
  }

 private:
  void BringFurther(Situation situation) {
    switch (situation) {
      case Situation::kPausing:
        return Ask(TrialVerb::kPause);
      case Situation::kPreempting:
        ASSERT_TRUE(core_->PauseSweep("s", {}).ok());
        return;
      case Situation::kStopping:
        return Ask(TrialVerb::kStop);
      case Situation::kCancelling:
        ASSERT_TRUE(core_->CancelSweep("s", true).ok());
        return;
      case Situation::kPaused:
        Ask(TrialVerb::kPause);
        return End(75, "yielded");
      case Situation::kSucceeded:
        return End(0, "finished");
      case Situation::kStoppedEarly:
        Ask(TrialVerb::kStop);
        return End(75, "yielded");
      case Situation::kFailed:
        return End(78, "");
      default:
        ASSERT_TRUE(core_->CancelSweep("s", true).ok());
        return End(75, "yielded");
    }
  }
};

}  // namespace sae::server::testing
