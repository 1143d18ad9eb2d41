#include "sae/base/signals.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace sae {

absl::StatusOr<std::unique_ptr<SignalWatcher>> SignalWatcher::Create(
    const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (error != 0) return ErrnoToStatus(error, "cannot block signals");
  std::signal(SIGPIPE, SIG_IGN);
  const int fd = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return ErrnoToStatus(errno, "cannot watch signals");
  return std::unique_ptr<SignalWatcher>(new SignalWatcher(fd));
}

SignalWatcher::~SignalWatcher() { ::close(fd_); }

std::optional<int> SignalWatcher::Wait(absl::Duration timeout) {
  int ms = -1;
  if (timeout != absl::InfiniteDuration()) {
    ms = static_cast<int>(std::clamp<std::int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1))), 0, INT_MAX));
  }
  pollfd p{fd_, POLLIN, 0};
  if (::poll(&p, 1, ms) <= 0) return std::nullopt;
  signalfd_siginfo info{};
  if (::read(fd_, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace sae
