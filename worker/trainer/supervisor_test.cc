#include "worker/trainer/supervisor.h"

#include <gtest/gtest.h>

#include <csignal>
#include <future>
#include <thread>

namespace saeloom::trainer {
namespace {
using sae::train::StopReason;

class SupervisorTest : public ::testing::Test {
 protected:
  SupervisorTest() : signals_(sae::SignalWatcher::Create({SIGUSR1, SIGTERM}).value()) {
    options_.signals = signals_.get();
    options_.tick = absl::Milliseconds(1);
    options_.no_progress = absl::Hours(10);
    options_.on_stuck = [&](absl::Duration silent) { stuck_.set_value(silent); };
    options_.end_now = [&](int code) { ended_.set_value(code); };
  }
  // Signals are counted once taken: the wish shows it.
  static void Until(const std::function<bool()>& done) {
    while (!done()) std::this_thread::yield();
  }
  std::unique_ptr<sae::SignalWatcher> signals_;
  Supervisor::Options options_;
  std::promise<absl::Duration> stuck_;
  std::promise<int> ended_;
};

TEST_F(SupervisorTest, SignalsBecomeWishesAndTheGraverWins) {
  Supervisor supervisor(options_);
  EXPECT_EQ(supervisor.StopRequested(), StopReason::kNone);
  ::kill(::getpid(), SIGUSR1);
  Until([&] { return supervisor.StopRequested() == StopReason::kPreempt; });
  ::kill(::getpid(), SIGTERM);
  Until([&] { return supervisor.StopRequested() == StopReason::kTerminate; });
  ::kill(::getpid(), SIGTERM);
  EXPECT_EQ(ended_.get_future().get(), 128 + SIGTERM);
}

TEST_F(SupervisorTest, SilenceEndsTheProcess) {
  options_.no_progress = absl::Milliseconds(20);
  Supervisor supervisor(options_);
  EXPECT_EQ(stuck_.get_future().get(), absl::Milliseconds(20));
}

}  // namespace
}  // namespace saeloom::trainer
