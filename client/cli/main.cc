// saeloom: the one command of a user. Verbs that need numbers are handed over to saeloom-offline by
// exec.

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "sae/base/ids.h"
#include "sae/base/process.h"

namespace {

winsize TerminalSize() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size = {24, 80, 0, 0};
  return size;
}

absl::Status Exec(const std::vector<std::string>& argv) {
  std::vector<char*> raw;
  for (const std::string& a : argv) raw.push_back(const_cast<char*>(a.c_str()));
  raw.push_back(nullptr);
  ::execv(raw[0], raw.data());
  return sae::ErrnoToStatus(errno, argv[0]);
}

std::string Variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  std::error_code ignored;
  const std::string term = Variable("TERM");
  sae::cli::World world{.out = std::cout,
                        .err = std::cerr,
                        .clock = sae::RealClock(),
                        .env = sae::RealEnv(),
                        .terminal = ::isatty(STDOUT_FILENO) == 1 && term != "dumb",
                        .columns = [] { return static_cast<int>(TerminalSize().ws_col); },
                        .rows = [] { return static_cast<int>(TerminalSize().ws_row); },
                        .variable = Variable,
                        .directory = std::filesystem::current_path(ignored).string(),
                        .own_directory = sae::ExecutableDirectory(),
                        .exec = Exec,
                        .watch_signals = []() -> std::unique_ptr<sae::SignalWatcher> {
                          auto watcher = sae::SignalWatcher::Create({SIGINT, SIGTERM});
                          return watcher.ok() ? *std::move(watcher) : nullptr;
                        },
                        .new_request_id =
                            [random = sae::Random(sae::SeedFromMachine())]() mutable {
                              return sae::MakeUlid(sae::RealClock().Now(), random);
                            }};
  // gRPC's own log would print a second, unreadable error beside ours. Before any thread starts.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);  // NOLINT(concurrency-mt-unsafe)
  return sae::cli::RunCli({argv + 1, argv + argc}, world);
}
