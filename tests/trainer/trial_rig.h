#pragma once
// For the trainer's tests across processes: a small synthetic store, a run.json, the real binary alone or
// under mpirun, and what it left behind. Waiting is polling of files with a deadline; nothing is timed.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/process.h"
#include "sae/config/events.h"
#include "sae/config/run_config.h"
#include "tests/support/temp_dir.h"

namespace sae::testing {

class TrialRig {
 public:
  static constexpr std::int64_t kWidth = 16;

  /// A store of `rows` rows of width 16 in the rig's own folder, and a config of 400 steps of 64 tokens.
  explicit TrialRig(std::int64_t rows = 4000);

  std::string store() const { return dir_ / "store"; }
  std::string checkpoints() const { return dir_ / "checkpoints"; }
  const std::string& folder() const { return dir_.path(); }
  std::string AttemptFolder(int attempt) const;

  /// Shared by all attempts; a test changes what it needs.
  config::RunConfig config;

  /// Writes run.json of the attempt and starts the trainer: alone, or `ranks` of it under mpirun. The config
  /// asks for `ranks`, or for `wanted` where that is given.
  std::unique_ptr<Process> Start(int attempt, int ranks, bool mpirun, int wanted = 0);
  /// The same, waits, and returns the exit code as a shell shows it.
  int Run(int attempt, int ranks, bool mpirun, int wanted = 0);
  /// Starts `members` as trials of one gang, each with a folder as an attempt of that number has it and checkpoints
  /// below it; `change` makes them differ.
  std::unique_ptr<Process> StartGang(const std::vector<int>& members, int ranks, bool mpirun,
                                     const std::function<void(int, config::RunConfig&)>& change = nullptr);
  /// What run.json says, verbatim, instead of `config`.
  int RunJson(const std::string& json, const std::vector<std::string>& flags = {});

  std::vector<config::Event> Events(int attempt) const;
  /// Waits until an event of that kind at `step` or later is there; false when the process ended before.
  bool WaitForEvent(int attempt, config::EventKind kind, std::int64_t step, Process& process) const;
  /// Standard output and error of the last start (of mpirun, where it was used).
  std::string Output() const;
  std::string RankLog(int attempt, int rank) const;

 private:
  std::unique_ptr<Process> StartWith(const std::string& json_path, const std::vector<std::string>& flags, int ranks,
                                     bool mpirun);
  TempDir dir_;
  int starts_ = 0;
};

/// Shell code of a process that must end; fails the test after two minutes.
int WaitFor(Process& process);

/// Whether mpirun is there (and the trainer knows MPI): else the caller skips, saying so.
bool HaveMpi();

/// Live saeloom-trainer processes that run with that folder in their command line.
std::vector<int> TrainerPids(const std::string& folder);

/// The rank of such a process, as its launcher told it; -1 when it does not say.
int RankOf(int pid);

/// Polls until it holds; false after half a minute.
bool WaitUntil(const std::function<bool()>& condition);

}  // namespace sae::testing
