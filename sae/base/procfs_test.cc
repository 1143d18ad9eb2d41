#include "sae/base/procfs.h"

#include <csignal>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sae/base/process.h"
#include "sae/base/signals.h"

namespace sae {
namespace {

constexpr absl::Duration kLongEnough = absl::Seconds(30);

TEST(ParseStat, NameWithParenthesesAndSpaces) {
  const auto p = ParseStat(
      "42 (a) b (c) S 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 100 10 "
      "18446744073709551615\n");
  ASSERT_TRUE(p.ok()) << p.status();
  EXPECT_EQ(p->pid, 42);
  EXPECT_EQ(p->name, "a) b (c");
  EXPECT_EQ(p->state, 'S');
  EXPECT_EQ(p->parent, 7);
  EXPECT_EQ(p->group, 8);
  EXPECT_EQ(p->session, 9);
  EXPECT_EQ(p->start_ticks, 123456);
  EXPECT_FALSE(ParseStat("42 (a) S 7 8").ok());
  EXPECT_FALSE(ParseStat("").ok());
}

TEST(Procfs, OwnProcess) {
  const auto self = ReadProcess(::getpid());
  ASSERT_TRUE(self.ok());
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_GT(self->start_ticks, 0);
  EXPECT_EQ(BootId()->size(), 36U);
  EXPECT_EQ(ReadProcess(0).status().code(), absl::StatusCode::kNotFound);
  EXPECT_GE(OutOfMemoryKills(), 0);
}

TEST(FindProcesses, ByMarkAlsoOutsideTheSession) {
  const std::string value = std::to_string(::getpid()) + "/0001/1";
  // setsid: the grandchild leaves the session but keeps the environment.
  ProcessSpec spec{.argv = {"/bin/sh", "-c", "setsid sleep 600 & echo ready; wait"}};
  spec.environment = {{"SAE_TEST_MARK", value}};
  spec.capture = true;
  auto p = Process::Spawn(spec);
  ASSERT_TRUE(p.ok());
  char line[6];
  ASSERT_EQ(::read((*p)->output_fd(), line, sizeof line), 6);
  EXPECT_GE(FindProcesses({.session = (*p)->pid()}).size(), 1U);
  // The environment of a process is empty for an instant while it execs.
  const auto marked = [&] { return FindProcesses({.marks = {"SAE_TEST_MARK=" + value}}).size(); };
  for (int i = 0; i < 1000 && marked() < 2; ++i) ::usleep(10'000);
  EXPECT_EQ(marked(), 2U);
  EXPECT_TRUE(FindProcesses({.marks = {"SAE_TEST_MARK=" + value.substr(0, 3)}}).empty())
      << "no prefix match";
  EXPECT_TRUE(FindProcesses({.marks = {"SAE_TEST_MARK=" + value, "SAE_OTHER=1"}}).empty())
      << "every mark";
  EXPECT_TRUE(FindProcesses({}).empty());

  EXPECT_EQ(SignalProcesses({.marks = {"SAE_TEST_MARK=" + value}}, SIGKILL), 2);
  EXPECT_EQ((*p)->Wait(kLongEnough)->value().signal, SIGKILL);
  for (int i = 0; i < 1000 && !FindProcesses({.marks = {"SAE_TEST_MARK=" + value}}).empty(); ++i)
    ::usleep(10'000);
  EXPECT_TRUE(FindProcesses({.marks = {"SAE_TEST_MARK=" + value}}).empty());
}

TEST(SignalWatcher, DeliversInOrderOfArrivalAndTimesOut) {
  auto watcher = SignalWatcher::Create({SIGUSR1});
  ASSERT_TRUE(watcher.ok());
  EXPECT_EQ((*watcher)->Wait(absl::ZeroDuration()), std::nullopt);
  ::kill(::getpid(), SIGUSR1);
  EXPECT_EQ((*watcher)->Wait(kLongEnough), SIGUSR1);
  EXPECT_EQ((*watcher)->Wait(absl::ZeroDuration()), std::nullopt);
}

}  // namespace
}  // namespace sae
