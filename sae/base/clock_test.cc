#include "sae/base/clock.h"

#include <gtest/gtest.h>

namespace sae {
namespace {

TEST(FakeClock, AWallJumpLeavesBootTimeAlone) {
  FakeClock clock;
  const absl::Time wall = clock.Now();
  const absl::Duration boot = clock.SinceBoot();
  clock.JumpWall(-absl::Hours(1));
  EXPECT_EQ(clock.Now(), wall - absl::Hours(1));
  EXPECT_EQ(clock.SinceBoot(), boot);
  clock.SleepFor(absl::Seconds(2));
  EXPECT_EQ(clock.SinceBoot(), boot + absl::Seconds(2));
  EXPECT_EQ(clock.Now(), wall - absl::Hours(1) + absl::Seconds(2));
}

TEST(RealClock, BootTimeNeverGoesBack) {
  const absl::Duration a = RealClock().SinceBoot();
  const absl::Duration b = RealClock().SinceBoot();
  EXPECT_GT(a, absl::ZeroDuration());
  EXPECT_GE(b, a);
}

}  // namespace
}  // namespace sae
