// Plays mpirun and its trainer in the chaos tests, quickly: takes mpirun's arguments, reads
// run.json, trains TRUTH_STEPS steps of a few milliseconds with a checkpoint every few, goes on
// from the newest one, obeys SIGUSR1 and its lease. Ground truth goes to the folder $CHAOS_TRUTH: a
// line in `lives` for each start and each end that it survives, one in `signs` for each step, and a
// lock for each trial that it holds while it lives; who finds the lock taken says so, for two
// attempts of a trial must never live together. A file `mode-TRIAL-ATTEMPT` or `mode-TRIAL` there
// says what goes wrong:
//   oom, segv        killed by that signal after some steps
//   exit:C           exits with C without a verdict
//   hang             no further step, deaf to all but SIGKILL and its lease
//   fail             says failed
//   nan              its metrics are NaN, infinite and huge
//   text:T           writes T to the log of rank 0, then dies of SIGABRT

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "sae/config/events.h"

namespace {

using sae::config::EventKind;
namespace fs = std::filesystem;

volatile sig_atomic_t noticed = 0;
void OnNotice(int) { noticed = 1; }

long long SinceBoot() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Gang {
 public:
  explicit Gang(const nlohmann::json& run)
      : truth_(std::getenv("CHAOS_TRUTH")),
        directory_(run.at("run").at("directory")),
        checkpoints_(run.at("run").at("checkpoints").get<std::string>()),
        sweep_(run.at("run").at("sweep")),
        trial_(run.at("run").at("trial")),
        attempt_(run.at("run").at("attempt")),
        steps_(std::atoi(std::getenv("CHAOS_STEPS"))),
        events_(directory_ + "/events.jsonl", std::ios::app) {
    mode_ = ReadAll(truth_ / ("mode-" + trial_ + "-" + std::to_string(attempt_)));
    if (mode_.empty()) mode_ = ReadAll(truth_ / ("mode-" + trial_));
  }

  int Run() {
    const std::string lock = (truth_ / ("lock-" + sweep_ + "-" + trial_)).string();
    const int fd = ::open(lock.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    const bool alone = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    Tell(alone ? "start" : "double");
    step_ = saved_ = Newest();
    Write(EventKind::kStarted);
    const int code = Train();
    Tell("end");
    return code;
  }

 private:
  void Tell(const std::string& what) {
    const auto record =
        nlohmann::json::parse(ReadAll(directory_ + "/attempt.json"), nullptr, false);
    const std::string worker = record.is_object() ? record.value("worker_id", "") : "";
    const std::string line =
        nlohmann::json{{"what", what},        {"sweep", sweep_},  {"trial", trial_},
                       {"attempt", attempt_}, {"worker", worker}, {"at", SinceBoot()},
                       {"pid", ::getpid()}}
            .dump() +
        "\n";
    Append("lives", line);
  }

  /// That it lives: who is killed cannot say when it ended.
  void Sign() {
    Append("signs", nlohmann::json{{"pid", ::getpid()}, {"at", SinceBoot()}}.dump() + "\n");
  }

  void Append(const std::string& name, const std::string& line) {
    const int fd = ::open((truth_ / name).c_str(), O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0644);
    if (::write(fd, line.data(), line.size()) < 0) std::abort();
    ::close(fd);
  }

  int Newest() const {
    int newest = 0;
    for (const auto& entry : fs::directory_iterator(checkpoints_)) {
      const std::string name = entry.path().filename();
      if (name.rfind("step-", 0) == 0 && ReadAll(entry.path() / "data") == name)
        newest = std::max(newest, std::atoi(name.c_str() + 5));
    }
    return newest;
  }

  /// Each step once, as a trainer does.
  void Save() {
    if (std::exchange(saved_, step_) == step_) return;
    const std::string name = "step-" + std::to_string(step_);
    const fs::path tmp = checkpoints_ / (".tmp-" + name);
    fs::create_directories(tmp);
    std::ofstream(tmp / "data") << name;
    fs::remove_all(checkpoints_ / name);
    fs::rename(tmp, checkpoints_ / name);
    Write(EventKind::kCheckpoint, name);
  }

  void Write(EventKind kind, const std::string& text = "") {
    sae::config::Event e;
    e.seq = ++seq_;
    e.kind = kind;
    e.step = step_;
    e.tokens = step_ * 100;
    if (kind == EventKind::kStarted) e.from_step = step_;
    (kind == EventKind::kCheckpoint ? e.checkpoint : e.message) = text;
    if (kind == EventKind::kMetrics) {
      e.values["train.loss"] = mode_ == "nan" ? std::nan("") : 1.0 / (1 + step_);
      if (mode_ == "nan") e.values["train.l0"] = std::numeric_limits<double>::infinity();
      if (mode_ == "nan") e.values["train.fvu"] = 1e308;
    }
    if (kind == EventKind::kFinished) {
      sae::config::Event evaluation = e;
      evaluation.kind = EventKind::kEvaluation;
      evaluation.values["heldout.fvu"] = mode_ == "nan" ? std::nan("") : 0.5;
      events_ << sae::config::ToJsonLine(evaluation) << std::flush;
      e.seq = ++seq_;
    }
    events_ << sae::config::ToJsonLine(e) << std::flush;
  }

  bool LeasePassed() const {
    const std::string text = ReadAll(directory_ + "/lease");
    return !text.empty() && SinceBoot() > std::atoll(text.c_str());
  }

  int Misbehave() {
    if (mode_ == "oom") ::raise(SIGKILL);
    if (mode_ == "segv") {
      ::signal(SIGSEGV, SIG_DFL);
      ::raise(SIGSEGV);
    }
    if (mode_ == "fail") {
      Write(EventKind::kFailed, "it broke");
      return 1;
    }
    if (mode_.rfind("exit:", 0) == 0) return std::atoi(mode_.c_str() + 5);
    if (mode_.rfind("text:", 0) == 0) {
      std::ofstream(directory_ + "/rank-0.log", std::ios::app) << mode_.substr(5) << std::endl;
      ::raise(SIGABRT);
    }
    while (!LeasePassed()) {  // hang
      ::usleep(10'000);
      Sign();
    }
    return 75;
  }

  int Train() {
    const int wrong_at = step_ + 3;
    while (step_ < steps_) {
      ::usleep(25'000);
      Sign();
      if (noticed != 0 || LeasePassed()) {
        if (noticed != 0) Save();
        Write(EventKind::kYielded, noticed != 0 ? "asked to" : "the lease has passed");
        return 75;
      }
      ++step_;
      Write(EventKind::kMetrics);
      if (step_ % 5 == 0) Save();
      if (!mode_.empty() && mode_ != "nan" && step_ >= wrong_at) return Misbehave();
    }
    Save();
    Write(EventKind::kFinished);
    return 0;
  }

  const fs::path truth_;
  const std::string directory_;
  const fs::path checkpoints_;
  const std::string sweep_, trial_;
  const int attempt_;
  const int steps_;
  std::string mode_;
  std::ofstream events_;
  int step_ = 0;
  int saved_ = 0;  ///< newest step that was
  std::int64_t seq_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGUSR1, OnNotice);
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::string(argv[i]) == "--config")
      return Gang(nlohmann::json::parse(ReadAll(argv[i + 1]))).Run();
  }
  return 2;
}
