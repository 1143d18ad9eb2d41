#include "tests/trainer/trial_rig.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <utility>

#include "sae/base/env.h"
#include "sae/base/procfs.h"
#include "sae/data/store_create.h"

namespace sae::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(120);

void Pause() { std::this_thread::sleep_for(std::chrono::milliseconds(2)); }

std::string Trainer() { return ExecutableDirectory() + "/saeloom-trainer"; }

std::string ReadOrEmpty(const std::string& path) {
  const absl::StatusOr<std::string> text = RealEnv().Read(path);
  return text.ok() ? *text : "";
}

absl::StatusOr<std::string> Mpirun() {
  const char* path = std::getenv("PATH");
  return FindInPath("", "", "mpirun", path == nullptr ? "" : path);
}

}  // namespace

TrialRig::TrialRig(std::int64_t rows) {
  data::SyntheticSpec spec;
  spec.options.d = kWidth;
  spec.options.features = 48;
  spec.rows = rows;
  data::StoreWriterOptions writer;
  writer.directory = store();
  writer.dtype = DType::kF32;
  writer.heldout_fraction = 0.1;
  const auto manifest = data::CreateSyntheticStore(spec, writer);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  config.store = store();
  config.trial.sae.latents = 64;
  config.trial.sae.k = 4;
  config.trial.train.tokens = 400 * 64;
  config.trial.train.batch = 64;
  config.trial.train.lr = 1e-3;
  config.run.checkpoints = checkpoints();
}

std::string TrialRig::AttemptFolder(int attempt) const { return dir_ / ("attempts/" + std::to_string(attempt)); }

std::unique_ptr<Process> TrialRig::StartWith(const std::string& json_path, const std::vector<std::string>& flags,
                                             int ranks, bool mpirun) {
  ProcessSpec spec;
  if (mpirun) {
    spec.argv = {Mpirun().value(), "--bind-to", "none", "--oversubscribe", "-np", std::to_string(ranks)};
    spec.environment = {{"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                        {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                        {"OMPI_MCA_plm", "isolated"}};
  }
  for (const std::string& word : {Trainer(), std::string("--config"), json_path}) spec.argv.push_back(word);
  spec.argv.insert(spec.argv.end(), flags.begin(), flags.end());
  spec.output = dir_ / absl::StrCat("output-", ++starts_);
  spec.errors = spec.output;
  auto process = Process::Spawn(spec);
  EXPECT_TRUE(process.ok()) << process.status();
  return *std::move(process);
}

std::unique_ptr<Process> TrialRig::Start(int attempt, int ranks, bool mpirun, int wanted) {
  config.trial.ranks = wanted == 0 ? ranks : wanted;
  config.run.attempt = attempt;
  config.run.directory = AttemptFolder(attempt);
  EXPECT_TRUE(RealEnv().MakeDirectories(config.run.directory).ok());
  const std::string path = config.run.directory + "/run.json";
  std::ofstream(path) << config::ToJson(config);
  return StartWith(path, {}, ranks, mpirun);
}

int TrialRig::Run(int attempt, int ranks, bool mpirun, int wanted) {
  return WaitFor(*Start(attempt, ranks, mpirun, wanted));
}

std::unique_ptr<Process> TrialRig::StartGang(const std::vector<int>& members, int ranks, bool mpirun,
                                             const std::function<void(int, config::RunConfig&)>& change) {
  std::vector<std::string> paths, flags;
  for (const int member : members) {
    config::RunConfig own = config;
    own.trial.ranks = ranks;
    own.run.trial = absl::StrCat("000", member);
    own.run.directory = AttemptFolder(member);
    own.run.checkpoints = AttemptFolder(member) + "/checkpoints";
    if (change) change(member, own);
    EXPECT_TRUE(RealEnv().MakeDirectories(own.run.directory).ok());
    paths.push_back(own.run.directory + "/run.json");
    std::ofstream(paths.back()) << config::ToJson(own);
    if (paths.size() == 1) continue;
    flags.emplace_back("--config");
    flags.push_back(paths.back());
  }
  return StartWith(paths[0], flags, ranks, mpirun);
}

int TrialRig::RunJson(const std::string& json, const std::vector<std::string>& flags) {
  const std::string path = dir_ / "run.json";
  std::ofstream(path) << json;
  return WaitFor(*StartWith(path, flags, 1, false));
}

std::vector<config::Event> TrialRig::Events(int attempt) const {
  std::vector<config::Event> out;
  const std::string text = ReadOrEmpty(AttemptFolder(attempt) + "/events.jsonl");
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    out.push_back(config::ParseEvent(text.substr(begin, end - begin)).value());
  }
  return out;
}

bool TrialRig::WaitForEvent(int attempt, config::EventKind kind, std::int64_t step, Process& process) const {
  for (;;) {
    const bool ended = process.Wait(absl::ZeroDuration()).value().has_value();
    for (const config::Event& e : Events(attempt)) {
      if (e.kind == kind && e.step >= step) return true;
    }
    if (ended) return false;
    Pause();
  }
}

std::string TrialRig::Output() const { return ReadOrEmpty(dir_ / absl::StrCat("output-", starts_)); }

std::string TrialRig::RankLog(int attempt, int rank) const {
  return ReadOrEmpty(absl::StrCat(AttemptFolder(attempt), "/rank-", rank, ".log"));
}

int WaitFor(Process& process) {
  const auto status = process.Wait(kPatience);
  if (!status.ok() || !status->has_value()) {
    ADD_FAILURE() << "the process did not end";
    return -1;
  }
  return (*status)->ShellCode();
}

bool HaveMpi() { return SAE_TRAINER_HAS_MPI != 0 && Mpirun().ok(); }

std::vector<int> TrainerPids(const std::string& folder) {
  std::vector<int> out;
  for (const ProcessInfo& p : ListProcesses()) {
    if (p.name.rfind("saeloom-trainer", 0) != 0) continue;
    if (ReadOrEmpty(absl::StrCat("/proc/", p.pid, "/cmdline")).find(folder) != std::string::npos) out.push_back(p.pid);
  }
  return out;
}

int RankOf(int pid) {
  const std::string name = "OMPI_COMM_WORLD_RANK=";
  const std::string environment = ReadOrEmpty(absl::StrCat("/proc/", pid, "/environ"));
  const std::size_t at = environment.find(name);
  return at == std::string::npos ? -1 : std::atoi(environment.c_str() + at + name.size());
}

bool WaitUntil(const std::function<bool()>& condition) {
  for (int i = 0; i < 15000; ++i) {
    if (condition()) return true;
    Pause();
  }
  return false;
}

}  // namespace sae::testing
