// Who may be promised what: a registration that comes late, a coordinator whose epoch is over.
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {

class FencingTest : public CoreTest {};

TEST_F(FencingTest, ALateRegistrationTakesNothingAway) {
  RegisterRequest first = Registration("a", 2);
  first.sent = absl::Seconds(10);
  RegisterRequest second = first;
  second.sent = absl::Seconds(15);
  Register(second);
  Create(MakeSpec("s", 1));
  ASSERT_TRUE(Beat("a", {Status("0000", 1, AttemptStatus::State::kStarting)}).ok());
  // Sent before the attempt began, and so without it.
  EXPECT_TRUE(absl::IsAborted(core_->Register(first).status()));
  EXPECT_TRUE(absl::IsAborted(core_->Register(second).status())) << "repeated by the network";
  core_->Tick();
  EXPECT_EQ(StateOf(0), TrialState::kStarting);
  first.boot_id = "after a reboot";
  EXPECT_TRUE(core_->Register(first).ok()) << "its clock began anew";
}

TEST_F(FencingTest, AWorkerThatDoesNotSayWhenItRegistersIsTaken) {
  Register(Registration("a", 2));
  EXPECT_TRUE(core_->Register(Registration("a", 2)).ok()) << "an older version of the worker";
}

TEST_F(FencingTest, ACoordinatorWhoseEpochIsOverRenewsNoLease) {
  Register(Registration("a", 2));
  ASSERT_TRUE(Beat("a").ok());
  MemoryStore other(disk_);
  ASSERT_TRUE(other.BeginEpoch().ok());
  EXPECT_TRUE(absl::IsAborted(Beat("a")));
  EXPECT_TRUE(absl::IsAborted(core_->Register(Registration("b", 2)).status()));
}

}  // namespace
}  // namespace sae::server::testing
