#pragma once
// For the gang's tests: a small store with targets, trials of it alone or in a gang on in-process ranks, and what
// they left behind.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sae/data/store_test_util.h"
#include "sae/data/store_writer.h"
#include "sae/train/engine/engine_testing_runs.h"
#include "sae/train/run_gang.h"
#include "sae/train/trainer_testing.h"
#include "tests/support/temp_dir.h"

namespace sae::train::testing {

inline constexpr std::int64_t kGangRows = 900, kGangTargets = 9;

/// A store of kRunWidth with targets, in its own folder; trials have folders beside it.
class GangRig {
 public:
  explicit GangRig(int ranks) : ranks_(ranks) {
    spdlog::set_level(spdlog::level::off);
    data::StoreWriterOptions options;
    options.directory = dir_ / "store";
    options.d = kRunWidth;
    options.target_d = kGangTargets;
    options.dtype = DType::kBf16;
    options.heldout_fraction = 0.1;
    SparseData x(40, kRunWidth, 3, 5), y(40, kGangTargets, 3, 6);
    const std::vector<float> inputs = x.Rows(kGangRows, 4), targets = y.Rows(kGangRows, 4);
    auto writer = data::StoreWriter::Create(options);
    EXPECT_TRUE(writer.ok()) << writer.status();
    data::StoreRows rows;
    rows.activations = inputs;
    rows.targets = targets;
    EXPECT_TRUE((*writer)->Append(rows).ok());
    EXPECT_TRUE((*writer)->Finish().ok());
  }

  /// A run of `steps` steps of the variant's trial, in folder `name`.
  config::RunConfig Config(const RunVariant& variant, const std::string& name, std::int64_t steps) const {
    config::RunConfig c;
    c.store = dir_ / "store";
    c.trial = ConfigOf(variant, ranks_);
    c.trial.train.tokens = static_cast<double>(steps * c.trial.train.batch);
    c.trial.train.eval_every_tokens = static_cast<double>(7 * c.trial.train.batch);
    c.trial.train.log_every_steps = 3;
    c.trial.train.checkpoint_every_seconds = 0;
    Place(name, 1, &c);
    return c;
  }
  void Place(const std::string& name, int attempt, config::RunConfig* c) const {
    c->run.trial = variant_name(name);
    c->run.attempt = attempt;
    c->run.directory = absl::StrCat(dir_.path(), "/", name, "/", attempt);
    c->run.checkpoints = absl::StrCat(dir_.path(), "/", name, "/checkpoints");
    c->run.threads = 2;
    std::filesystem::create_directories(c->run.directory);
  }

  using Stop = std::function<StopReason(std::size_t trial, std::int64_t asked)>;
  /// `stop`: asked once a step of each trial, on rank 0. `env`: of each trial's events and checkpoints.
  std::vector<absl::StatusOr<Outcome>> Run(const std::vector<config::RunConfig>& configs, const Stop& stop = nullptr,
                                           const std::function<Env*(std::size_t)>& env = nullptr) const {
    std::vector<absl::StatusOr<Outcome>> out(configs.size(), absl::UnknownError("none"));
    data::TestDisk disk;  // does not wait
    const absl::Status status = comm::RunInProcess(ranks_, [&](comm::Communicator& c) -> absl::Status {
      std::vector<std::unique_ptr<EventWriter>> events(configs.size());
      std::vector<std::int64_t> asked(configs.size());
      std::vector<GangTrial> trials;
      for (std::size_t at = 0; at < configs.size(); ++at) {
        Env& of_events = env && env(at) != nullptr ? *env(at) : disk;
        if (c.rank() == 0) {
          SAE_ASSIGN_OR_RETURN(events[at], EventWriter::Open(of_events, RealClock(),
                                                             configs[at].run.directory + "/events.jsonl"));
        }
        trials.push_back({configs[at], events[at].get(), [&, at] {
                            return stop && c.rank() == 0 ? stop(at, asked[at]++) : StopReason::kNone;
                          }});
      }
      RunTrialParts parts;
      parts.env = &disk;
      parts.clock = &RealClock();
      parts.communicator = &c;
      parts.progress = [] {};
      const auto outcomes = RunGang(trials, parts, [](std::size_t, const auto&) {});
      if (c.rank() == 0) out = outcomes;
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

  absl::StatusOr<Outcome> RunAlone(const config::RunConfig& config) const {
    absl::StatusOr<Outcome> out = absl::UnknownError("none");
    data::TestDisk disk;
    const absl::Status status = comm::RunInProcess(ranks_, [&](comm::Communicator& c) -> absl::Status {
      std::unique_ptr<EventWriter> events;
      if (c.rank() == 0) {
        SAE_ASSIGN_OR_RETURN(
            events, EventWriter::Open(disk, RealClock(), config.run.directory + "/events.jsonl"));
      }
      RunTrialParts parts;
      parts.env = &disk;
      parts.clock = &RealClock();
      parts.communicator = &c;
      parts.events = events.get();
      parts.stop_requested = [] { return StopReason::kNone; };
      parts.progress = [] {};
      auto outcome = RunTrial(config, parts);
      if (c.rank() == 0) out = outcome;
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }

 private:
  static std::string variant_name(const std::string& name) { return name.substr(name.find('/') + 1); }

  ::sae::testing::TempDir dir_;
  const int ranks_;
};

/// Every tensor of the newest checkpoint, as bytes.
inline std::map<std::string, std::string> TensorFiles(const config::RunConfig& config) {
  std::string newest;
  for (const auto& entry : std::filesystem::directory_iterator(config.run.checkpoints))
    newest = std::max(newest, entry.path().filename().string());
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(config.run.checkpoints + "/" + newest)) {
    if (entry.path().extension() == ".safetensors")
      out[newest + "/" + entry.path().filename().string()] = RealEnv().Read(entry.path().string()).value();
  }
  return out;
}

/// (step, value) of every metric that is no time, training and held-out, of these attempts. Not of checkpoints: a run that
/// is interrupted writes one more.
inline std::map<std::string, std::map<std::int64_t, double>> Curves(const std::vector<std::string>& directories) {
  std::map<std::string, std::map<std::int64_t, double>> out;
  for (const std::string& directory : directories) {
    for (const config::Event& e : ReadEvents(directory + "/events.jsonl")) {
      for (const auto& [name, value] : e.values) {
        const bool time = name.rfind("ms.", 0) == 0 || name.rfind("straggler.", 0) == 0 ||
                          name == "tokens_per_second" || name == "non_gemm_share";
        const bool curve = e.kind != config::EventKind::kFailed && e.kind != config::EventKind::kCheckpoint;
        if (!time && curve) out[name][e.step] = value;
      }
    }
  }
  return out;
}

inline void ExpectSameRun(const config::RunConfig& a, const std::vector<std::string>& attempts_a,
                          const config::RunConfig& b, const std::vector<std::string>& attempts_b) {
  const auto left = TensorFiles(a), right = TensorFiles(b);
  ASSERT_FALSE(left.empty());
  ASSERT_EQ(left.size(), right.size());
  for (const auto& [name, bytes] : left) {
    ASSERT_TRUE(right.contains(name)) << name;
    EXPECT_TRUE(bytes == right.at(name)) << name << " differs";
  }
  EXPECT_EQ(Curves(attempts_a), Curves(attempts_b));
}

inline void ExpectSameRun(const config::RunConfig& a, const config::RunConfig& b) {
  ExpectSameRun(a, {a.run.directory}, b, {b.run.directory});
}

}  // namespace sae::train::testing
