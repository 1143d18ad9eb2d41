#define SAE_FAILPOINTS  // this test's own points are there in every build
#include "sae/base/failpoint.h"

#include <csignal>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae {
namespace {

TEST(FailpointTest, ReadsEveryAction) {
  const auto rules = ParseFailpoints("a=kill@3;b=sleep(500ms);c=exit(7);d=error");
  ASSERT_TRUE(rules.ok()) << rules.status();
  ASSERT_EQ(rules->size(), 4U);
  EXPECT_EQ((*rules)[0].at, 3);
  EXPECT_EQ((*rules)[0].action, FailpointRule::Action::kKill);
  EXPECT_EQ((*rules)[1].sleep, absl::Milliseconds(500));
  EXPECT_EQ((*rules)[2].exit_code, 7);
  EXPECT_EQ((*rules)[3].action, FailpointRule::Action::kError);
}

TEST(FailpointTest, RefusesWhatItCannotRead) {
  for (const char* bad :
       {"a", "=kill", "a=die", "a=kill@0", "a=kill@x", "a=exit()", "a=sleep(5)"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseFailpoints(bad).status())) << bad;
  }
}

absl::Status Pass(int times) {
  for (int i = 0; i < times; ++i) SAE_FAILPOINT_RETURN("here");
  return absl::OkStatus();
}

/// In a process of its own, armed with `rules`: ends with 0 when Pass(times) succeeds, with 9 when
/// not.
[[noreturn]] void Armed(const char* rules, int times) {
  ::setenv("SAELOOM_FAILPOINTS", rules, 1);
  ::_exit(Pass(times).ok() ? 0 : 9);
}

using FailpointDeathTest = ::testing::Test;

TEST(FailpointDeathTest, KillsTheNthTime) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(Armed("here=kill@3", 2), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(Armed("here=kill@3", 3), ::testing::KilledBySignal(SIGKILL), "");
}

TEST(FailpointDeathTest, ExitsAndFails) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(Armed("here=exit(7)", 1), ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(Armed("here=error@2", 2), ::testing::ExitedWithCode(9), "");
  EXPECT_EXIT(Armed("elsewhere=kill", 5), ::testing::ExitedWithCode(0), "");
}

TEST(FailpointDeathTest, ATextThatCannotBeReadEndsTheProgram) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(Armed("here=explode", 1), ::testing::ExitedWithCode(2), "explode");
}

}  // namespace
}  // namespace sae
