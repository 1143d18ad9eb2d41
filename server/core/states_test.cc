#include "server/core/states.h"

#include <set>

#include <gtest/gtest.h>

namespace sae::server {
namespace {
using S = TrialState;

// design.md, "Sweep, trial, attempt", written out.
TEST(TrialStates, TransitionsAreTheOnesOfTheDesign) {
  const std::set<std::pair<S, S>> allowed = {
      {S::kPending, S::kAllocated},
      {S::kAllocated, S::kStarting},
      {S::kStarting, S::kRunning},
      {S::kRunning, S::kCheckpointing},
      // told to save and end before it trained
      {S::kAllocated, S::kCheckpointing},
      {S::kStarting, S::kCheckpointing},
      {S::kPending, S::kPaused},
      {S::kCheckpointing, S::kPaused},
      {S::kCheckpointing, S::kPreempted},
      {S::kPreempted, S::kPending},
      {S::kPaused, S::kPending},
      {S::kPending, S::kPaused},
      // stopped early while it waits
      {S::kPending, S::kStoppedEarly},
      {S::kPaused, S::kStoppedEarly},
      // retry after CLASS
      {S::kAllocated, S::kPending},
      {S::kStarting, S::kPending},
      {S::kRunning, S::kPending},
      {S::kCheckpointing, S::kPending},
  };
  for (const S from : AllTrialStates()) {
    for (const S to : AllTrialStates()) {
      bool expected = allowed.contains({from, to});
      if (!HasEnded(from) && to == S::kCancelled) expected = true;
      if (IsLive(from) && HasEnded(to)) expected = true;  // a verdict
      EXPECT_EQ(TransitionAllowed(from, to), expected) << ToString(from) << " -> " << ToString(to);
    }
  }
}

TEST(TrialStates, WordsParseBack) {
  for (const S s : AllTrialStates()) EXPECT_EQ(*ParseTrialState(ToString(s)), s);
  for (const SweepState s : AllSweepStates()) EXPECT_EQ(*ParseSweepState(ToString(s)), s);
  for (int i = 0; i <= static_cast<int>(FailureClass::kInternal); ++i) {
    const auto f = static_cast<FailureClass>(i);
    EXPECT_EQ(*ParseFailureClass(ToString(f)), f);
  }
  for (const StopWanted w : {StopWanted::kNone, StopWanted::kPause, StopWanted::kPreempt,
                             StopWanted::kStopEarly, StopWanted::kCancel})
    EXPECT_EQ(*ParseStopWanted(ToString(w)), w);
  EXPECT_EQ(ParseTrialState("SLEEPING").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TrialStates, APausedSweepHasNotEnded) {
  EXPECT_FALSE(HasEnded(SweepState::kRunning));
  EXPECT_FALSE(HasEnded(SweepState::kPaused));
  EXPECT_TRUE(HasEnded(SweepState::kSucceeded));
  EXPECT_TRUE(HasEnded(SweepState::kCancelled));
}

TEST(TrialStates, LiveStatesHoldSlots) {
  const std::set<S> live = {S::kAllocated, S::kStarting, S::kRunning, S::kCheckpointing};
  for (const S s : AllTrialStates()) EXPECT_EQ(IsLive(s), live.contains(s)) << ToString(s);
}

}  // namespace
}  // namespace sae::server
