// What one question or one turn costs the core's thread when a sweep has very many trials: no
// process, no disk. The log of a sweep whose trials all wait at their first rung is made, replayed,
// and looked at; beside some numbers stands the time of the walk over all trials that they spare.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <prometheus/text_serializer.h>

#include "bench/timing.h"
#include "sae/base/clock.h"
#include "server/core/checkpoint_policy.h"
#include "server/core/state_search.h"
#include "server/metrics/metrics.h"
#include "server/service/convert.h"
#include "server/store/memory_store.h"

namespace sae::server {
namespace {

struct Log {
  std::shared_ptr<MemoryStore::Disk> disk = std::make_shared<MemoryStore::Disk>();
  std::int64_t seq = 0;
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);

  void Add(const std::string& trial, Body body) {
    disk->by_seq["s"][++seq] = disk->log.size();
    disk->log.push_back({"s", seq, now, trial, std::move(body)});
  }
};

config::SweepSpec Spec(std::int64_t trials, std::int64_t keep_best) {
  config::SweepSpec spec;
  spec.name = "s";
  spec.store = "/data/store";
  spec.store_hash = "xxh3:0123456789abcdef";
  spec.store_d = 64;
  spec.trial.sae.architecture = "topk";
  spec.trial.sae.latents = 1024;
  spec.trial.sae.k = 8;
  spec.trial.train.tokens = 64000;
  spec.trial.train.batch = 1000;
  config::Parameter seed;
  seed.path = "train.seed";
  seed.kind = config::Parameter::Kind::kIntUniform;
  seed.max = 1e6;
  spec.parameters = {{seed}};
  spec.search = "asha";
  spec.asha.mode = "promote";
  spec.asha.max_rungs = 3;
  spec.max_trials = trials;
  if (keep_best > 0) spec.checkpoints.keep_best = 1;
  spec.checkpoints.keep_sweep_best = keep_best;
  return spec;
}

/// To its first rung, where it waits.
void AddTrial(Log& log, int index) {
  const std::string trial = TrialNameOf(index);
  const double value = 0.1 + (index * 7919LL % 100003) / 1e6;
  AttemptAllocated allocated;
  allocated.attempt = 1;
  allocated.worker = "w";
  allocated.runs_id = "runs";
  allocated.runs_directory = "/runs";
  allocated.slots = 1;
  log.Add(trial, allocated);
  log.Add(trial, AttemptStarting{1});
  log.Add(trial, AttemptRunning{1, 0});
  log.Add(trial, SearchReport{1, 4, 4000, value, true});
  log.Add(trial, SearchDecided{1, value, "pause"});
  log.Add(trial, StopRequested{1, StopWanted::kPause, "waits at rung 1 of 3"});
  log.Add(trial, CheckpointSaved{1, "step-000000000004", 4, 4000, 0.5, 1'000'000});
  CheckpointMarked mark;
  mark.name = "step-000000000004";
  mark.value = CheckpointValue{value, true, 4};
  log.Add(trial, mark);
  AttemptEnded ended;
  ended.attempt = 1;
  ended.outcome = "paused";
  ended.next = TrialState::kPaused;
  log.Add(trial, ended);
}

template <class Work>
void Show(const char* what, const Work& work) {
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) times.push_back(bench::Measure(work).processor);
  std::printf("%-58s %10.3f ms\n", what, bench::Median(times));
}

/// The walk that SweepRecord::ranked spares.
const TrialRecord* WalkForBest(const SweepRecord& sweep) {
  const TrialRecord* best = nullptr;
  for (const TrialRecord& trial : sweep.trials) {
    if (best == nullptr || IsBetter(sweep.spec, trial, *best)) best = &trial;
  }
  return best;
}

absl::Status Run(std::int64_t trials, std::int64_t keep_best) {
  SAE_ASSIGN_OR_RETURN(PreparedSweep prepared,
                       PrepareSweep(Spec(trials, keep_best), static_cast<std::size_t>(trials)));
  Log log;
  log.Add("", prepared.event);
  for (int i = 0; i < trials; ++i) AddTrial(log, i);
  FakeClock clock;
  MemoryStore store(log.disk);
  CoreOptions options;
  options.snapshot_events = 0;
  std::unique_ptr<Core> core;
  const bench::Cost start = bench::Measure([&] {
    auto made = Core::Start(options, clock, store);
    if (made.ok()) core = std::move(*made);
  });
  if (core == nullptr) return absl::InternalError("the core does not start");
  std::printf("%lld trials, keepSweepBest %lld\n%-58s %10.3f ms\n", static_cast<long long>(trials),
              static_cast<long long>(keep_best), "start: replay of the whole log", start.processor);
  const SweepRecord& sweep = *core->state().sweep("s");
  const TrialRecord* best = nullptr;
  Show("best trial, by a walk over all", [&] { best = WalkForBest(sweep); });
  Show("best trial", [&] {
    if (BestTrial(sweep) != best) std::abort();
  });
  Show("best of the sweep's checkpoints, by a walk over all", [&] { SweepBest(sweep); });
  Show("fates of all checkpoints", [&] { core->JudgeCheckpoints(sweep, nullptr); });
  Show("GetSweep", [&] { SweepToProto(sweep, core->head("s")); });
  prometheus::Registry registry;
  Metrics metrics(registry, "bench");
  absl::Duration now;
  Show("gauges of a scrape", [&] {
    metrics.Update(*core, store, {}, now);
    now += absl::Seconds(1);
  });
  Show("its text", [&] { prometheus::TextSerializer().Serialize(registry.Collect()); });
  Show("first turn, and turns with nothing to do", [&] { core->Advance(); });

  RegisterRequest request;
  request.worker_id = "w";
  request.boot_id = "boot";
  request.runs_directory = "/runs";
  request.runs_id = "runs";
  request.slots = 4;
  int times = 0;
  Show("a worker registers, and the turn after it", [&] {
    request.incarnation = std::to_string(++times);
    clock.Advance(absl::Seconds(2));
    if (!core->Register(request).ok()) std::abort();
    core->Advance();
  });
  Show("a pause and a resume of the sweep, and their turns", [&] {
    if (!core->PauseSweep("s", {}).ok()) std::abort();
    core->Advance();
    if (!core->ResumeSweep("s", {}).ok()) std::abort();
    core->Advance();
  });
  Show("a checkpoint is protected, and the turn after it", [&] {
    clock.Advance(absl::Seconds(2));
    if (!core->ProtectCheckpoint("s", "0007", "step-000000000004", ++times % 2 == 0, {}).ok())
      std::abort();
    core->Advance();
  });
  return absl::OkStatus();
}

}  // namespace
}  // namespace sae::server

int main(int argc, char** argv) {
  std::int64_t trials = 100'000, keep_best = 0;
  CLI::App app("Cost of questions and turns of the coordinator's core over a large sweep.");
  app.add_option("--trials", trials)->check(CLI::Range(1, 1'000'000));
  app.add_option("--keep-sweep-best", keep_best)->check(CLI::Range(0, 1000));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = sae::server::Run(trials, keep_best);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}
