// Stands in for mpirun and its trainer ranks in tests: takes mpirun's arguments, reads run.json,
// writes events.jsonl and rank-0.log as the trainer would, and then does what FAKE_GANG says (or
// FAKE_GANG_TRIAL for one trial; of several trials each has a process of its own):
//   finish:N     N metrics events, then finished; exits 0
//   run          metrics until SIGUSR1 (yielded, exits 75) or until the lease passes (the same)
//   stubborn     the same, but deaf to signals and lease
//   silent       no event at all, deaf
//   exit:C       one event, then exits with C without a verdict
//   fail:TEXT    the event failed with that message; exits 1
//   stray        leaves a process behind in a session of its own; finished
//   launcher:T   writes T to standard error, exits 137

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <string>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "sae/config/events.h"

namespace {

using sae::config::EventKind;

volatile sig_atomic_t noticed = 0;

class Gang {
 public:
  explicit Gang(const nlohmann::json& run)
      : directory_(run.at("run").at("directory")),
        trial_(run.at("run").at("trial")),
        events_(directory_ + "/events.jsonl", std::ios::app),
        log_(directory_ + "/rank-0.log", std::ios::app) {}

  int Run(const std::string& mode) {
    const std::string argument =
        mode.find(':') == std::string::npos ? "" : mode.substr(mode.find(':') + 1);
    log_ << "mode " << mode << std::endl;
    if (mode == "silent") return Forever(false);
    Write(EventKind::kStarted);
    if (mode == "run") return Forever(true);
    if (mode == "stubborn") return Forever(false);
    if (mode.rfind("exit:", 0) == 0) return std::atoi(argument.c_str());
    if (mode.rfind("launcher:", 0) == 0) {
      std::ofstream("/dev/stderr", std::ios::app) << argument << std::endl;
      return 137;
    }
    if (mode.rfind("fail:", 0) == 0) {
      log_ << "failing" << std::endl;
      Write(EventKind::kFailed, argument);
      return 1;
    }
    if (mode == "stray" && ::fork() == 0) {
      ::setsid();
      ::sleep(600);
      ::_exit(0);
    }
    const int count = std::atoi(argument.c_str());
    for (int i = 0; i < count; ++i) Write(EventKind::kMetrics);
    Write(EventKind::kFinished);
    return 0;
  }

 private:
  void Write(EventKind kind, const std::string& message = "") {
    sae::config::Event e;
    e.seq = ++seq_;
    e.kind = kind;
    e.step = seq_;
    e.tokens = seq_ * 100;
    e.message = message;
    if (kind == EventKind::kMetrics) e.values["train.loss"] = 1.0 / static_cast<double>(seq_);
    events_ << sae::config::ToJsonLine(e) << std::flush;
  }

  bool LeasePassed() const {
    std::ifstream in(directory_ + "/lease");
    long long deadline = 0;
    if (!(in >> deadline)) return false;
    timespec t{};
    ::clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * 1'000'000'000LL + t.tv_nsec > deadline;
  }

  int Forever(bool obeys) {
    for (;;) {
      ::usleep(5'000);
      if (obeys && (noticed != 0 || LeasePassed())) {
        Write(EventKind::kYielded, noticed != 0 ? "asked to" : "the lease has passed");
        return 75;
      }
      if (obeys && seq_ < 1000) Write(EventKind::kMetrics);
    }
  }

  std::string directory_;
  std::string trial_;
  std::ofstream events_;
  std::ofstream log_;
  std::int64_t seq_ = 0;
};

void OnNotice(int) { noticed = 1; }

}  // namespace

namespace {

int Play(const std::string& config) {
  std::ifstream in(config);
  const auto run = nlohmann::json::parse(in);
  const std::string trial = run.at("run").at("trial");
  const char* mode = std::getenv(("FAKE_GANG_" + trial).c_str());
  if (mode == nullptr) mode = std::getenv("FAKE_GANG");
  return Gang(run).Run(mode == nullptr ? "finish:3" : mode);
}

/// Waits for the players of all trials, and passes the notice on.
int Wait(std::vector<pid_t> players) {
  int code = 0;
  bool told = false;
  while (!players.empty()) {
    ::usleep(2'000);
    if (noticed != 0 && !told) {
      told = true;
      for (const pid_t p : players) ::kill(p, SIGUSR1);
    }
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, WNOHANG);
    if (ended <= 0) continue;
    players.erase(std::remove(players.begin(), players.end(), ended), players.end());
    code = std::max(code, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    // One that dies takes the others along, as mpirun sees to.
    if (code == 137) {
      for (const pid_t p : players) ::kill(p, SIGKILL);
    }
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGUSR1, OnNotice);
  std::vector<std::string> configs;
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--config") configs.emplace_back(argv[i + 1]);
  }
  if (configs.size() == 1) return Play(configs[0]);
  std::vector<pid_t> players;
  for (const std::string& config : configs) {
    const pid_t player = ::fork();
    if (player == 0) ::_exit(Play(config));
    players.push_back(player);
  }
  return Wait(std::move(players));
}
