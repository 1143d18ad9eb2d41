// saeloom-trainer: one rank of one attempt of a trial. Alone, or under mpirun or srun.

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/log.h"
#include "sae/train/run_gang.h"
#include "worker/trainer/attempt.h"
#include "worker/trainer/check.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/launch.h"
#include "worker/trainer/load_config.h"

namespace {
using saeloom::trainer::kBadConfig;

constexpr const char* kExamples = R"(Examples:
  saeloom-trainer --config run.json --check          what the run will be, its memory and its disk
  saeloom-trainer --config run.json                  one rank
  mpirun -np 2 --bind-to none saeloom-trainer --config run.json
  saeloom-trainer --config a/run.json --config b/run.json      two trials that read one stream together

Paths in run.json may be relative to the current folder. It writes events.jsonl and rank-R.log in
run.directory and checkpoints in run.checkpoints, and goes on from the newest checkpoint there. Trials of one gang
share store, ranks, threads, train.batch and train.data_seed; each gets the same bits as alone and a verdict of its own.
SIGUSR1, SIGTERM, SIGINT: save a checkpoint and end with 75.
Exit codes: 0 done; 2 usage; 70 no progress; 75 yielded (several: any of them), start it again; 78 a configuration that can never
run; 93 do not start it again; others are failures.)";

void PrintOnce(const std::string& message) {
  if (saeloom::trainer::RankFromEnvironment() == 0) std::fprintf(stderr, "saeloom-trainer: %s\n", message.c_str());
}

// One report a trial; as JSON an array of them where there are several.
int Check(const std::vector<sae::config::RunConfig>& configs, bool json) {
  std::string text;
  absl::Status status = sae::train::CheckGang(configs);
  for (std::size_t at = 0; status.ok() && at < configs.size(); ++at) {
    const absl::StatusOr<std::string> report = saeloom::trainer::CheckReport(sae::RealEnv(), configs[at], json);
    status = report.status();
    if (report.ok()) absl::StrAppend(&text, at == 0 ? "" : json ? "," : "\n", *report);
  }
  if (!status.ok()) {
    PrintOnce(sae::Message(status));
    return saeloom::trainer::ExitCodeOf(status);
  }
  if (json && configs.size() > 1) text = "[" + text + "]\n";
  if (saeloom::trainer::RankFromEnvironment() == 0) std::fputs(text.c_str(), stdout);
  return saeloom::trainer::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  // First of all, so that every thread (MPI's too) inherits the blocked signals.
  const auto signals = sae::SignalWatcher::Create({SIGUSR1, SIGTERM, SIGINT});
  if (!signals.ok()) {
    PrintOnce(sae::Message(signals.status()));
    return saeloom::trainer::kFailure;
  }
  CLI::App app{"Saeloom trainer: trains one sparse autoencoder, sharded by latents over its ranks", "saeloom-trainer"};
  app.footer(kExamples);
  std::vector<std::string> paths;
  std::string output = "table";
  bool check = false;
  app.add_option("-c,--config", paths,
                 "the run config, a JSON file; given several times: trials that share one stream, in one gang")
      ->required()
      ->allow_extra_args(false);
  app.add_flag("--check", check, "print the resolved config, memory, disk and steps; run nothing");
  app.add_option("-o,--output", output, "how --check prints: table or json")->check(CLI::IsMember({"table", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    PrintOnce(std::string(error.what()) + " (try: saeloom-trainer --help)");
    return 2;
  }
  std::vector<sae::config::RunConfig> configs;
  for (const std::string& path : paths) {
    absl::StatusOr<sae::config::RunConfig> config = saeloom::trainer::LoadConfig(sae::RealEnv(), path);
    if (!config.ok()) {
      PrintOnce(sae::Message(config.status()));
      return kBadConfig;
    }
    configs.push_back(*std::move(config));
  }
  if (check) return Check(configs, output == "json");
  return saeloom::trainer::RunAttempt(sae::RealEnv(), sae::RealClock(), **signals, configs);
}
