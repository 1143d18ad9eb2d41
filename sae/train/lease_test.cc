#include "sae/train/lease.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temp_dir.h"

namespace sae::train {
namespace {
using testing::TempDir;

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
std::string At(absl::Duration since_boot) { return absl::StrCat(absl::ToInt64Nanoseconds(since_boot)); }

TEST(LeaseFile, HoldsUntilItsDeadlineOnTheBootClock) {
  TempDir dir;
  FakeClock clock;
  Write(dir / "lease", At(clock.SinceBoot() + absl::Seconds(3)));
  LeaseFile lease(RealEnv(), clock, dir / "lease");
  EXPECT_FALSE(lease.Passed());
  clock.JumpWall(absl::Hours(5));
  EXPECT_FALSE(lease.Passed());
  clock.Advance(absl::Seconds(2));
  EXPECT_FALSE(lease.Passed());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(lease.Passed());
}

TEST(LeaseFile, IsRenewedByItsOwner) {
  TempDir dir;
  FakeClock clock;
  Write(dir / "lease", At(clock.SinceBoot() + absl::Seconds(3)));
  LeaseFile lease(RealEnv(), clock, dir / "lease");
  clock.Advance(absl::Seconds(2));
  Write(dir / "lease", At(clock.SinceBoot() + absl::Seconds(3)) + "\n");
  EXPECT_FALSE(lease.Passed());
  clock.Advance(absl::Seconds(2));
  EXPECT_FALSE(lease.Passed());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(lease.Passed());
}

TEST(LeaseFile, GoneOrTornLeavesTheLastDeadline) {
  TempDir dir;
  FakeClock clock;
  Write(dir / "lease", At(clock.SinceBoot() + absl::Seconds(30)));
  LeaseFile lease(RealEnv(), clock, dir / "lease");
  EXPECT_FALSE(lease.Passed());
  std::filesystem::remove(dir / "lease");
  clock.Advance(absl::Seconds(20));
  EXPECT_FALSE(lease.Passed());
  Write(dir / "lease", "12x");
  clock.Advance(absl::Seconds(10));
  EXPECT_TRUE(lease.Passed());
}

TEST(LeaseFile, NeverSeenPassesAfterTheGrace) {
  TempDir dir;
  FakeClock clock;
  LeaseFile lease(RealEnv(), clock, dir / "lease", absl::Seconds(15));
  clock.Advance(absl::Seconds(14));
  EXPECT_FALSE(lease.Passed());
  clock.Advance(absl::Seconds(1));
  EXPECT_TRUE(lease.Passed());
}

}  // namespace
}  // namespace sae::train
