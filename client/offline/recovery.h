#pragma once
// Recovery of known features: trains SAEs with the product's engine on synthetic data, in process,
// and compares what they found with the truth, against bands. A file of cases
// (examples/recover.yaml) says what to train and what to expect. Values; RunRecoveryCase is
// thread-safe on distinct pools. Sources: spec algorithms.md 13.3 (absorption; Chanin et al.
// 2024), 13.4 (recovery toys).

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sae/base/parallel.h"
#include "sae/base/status.h"
#include "sae/config/run_config.h"

namespace sae::client {

/// By name: fvu, l0 (true_l0: of the truth), gamma (not centred), mcc, mmcs, uniqueness; of the SAE
/// saved and loaded again: saved_fvu, dead (latents that no fresh row excites) and precision,
/// recall, f1 (means over latents, of each for the feature nearest to it); with data of a parent 0
/// and its child 1: mixed (the largest |cosine| of a decoder row with their sum), hole (the encoder
/// row of the parent's latent along the child), absorption (rate, sae/eval/absorption.h).
using RecoveryMetrics = std::map<std::string, double>;

struct Band {
  double low = 0;
  double high = 0;
  bool holds(double x) const { return x >= low && x <= high; }  // not NaN
};

struct RecoveryCase {
  std::string name, method, setting;
  std::string data;  ///< as of data::ParseSyntheticSpec
  std::int64_t steps = 0;
  std::int64_t evaluation_rows = 10240;
  std::int64_t seeds = 1;  ///< runs, with train.seed and those after it; metrics are their medians
  config::TrialConfig trial;  ///< train.tokens is set from steps
  std::map<std::string, Band> expect;
};

/// A gap between groups of cases: `metric` is below `low` for all of the first and above `high` for
/// all of the second.
struct Separation {
  std::string name, metric;
  std::vector<std::string> first, second;  ///< names of cases
  double low = 0;
  double high = 0;
};

struct RecoverySpec {
  std::vector<RecoveryCase> cases;
  std::vector<Separation> separations;
};

/// {"apiVersion", "trial": {..} (defaults), "cases": [{"name", "method", "setting", "data",
/// "steps", "evaluation_rows", "seeds", "trial": {..}, "expect": {metric: [low, high]}}],
/// "separations":
/// [{"name", "metric", "below": {"limit", "cases"}, "above": {..}}]}. INVALID_ARGUMENT names case
/// and key.
[[nodiscard]] absl::StatusOr<RecoverySpec> ParseRecoverySpec(const std::string& json);

/// Reads a YAML file of it.
[[nodiscard]] absl::StatusOr<RecoverySpec> LoadRecoverySpec(const std::string& file);

/// The case named `only`, or else those whose names begin with it, and separations all of whose
/// cases are left. NOT_FOUND lists the names there are.
[[nodiscard]] absl::Status KeepOnly(const std::string& only, RecoverySpec* spec);

/// Trains on rows [0, steps * batch), evaluates on the rows after them. `scratch`: where it may
/// make a folder for a checkpoint; it removes it. `progress` gets steps done, over all seeds.
[[nodiscard]] absl::StatusOr<RecoveryMetrics> RunRecoveryCase(
    const RecoveryCase& recovery, const std::string& scratch, ThreadPool& pool,
    const std::function<void(std::int64_t steps)>& progress = nullptr);

struct RecoveryRun {
  absl::Status status;
  RecoveryMetrics metrics;
  double seconds = 0;
};
/// All cases, `threads` at a time, each on one thread. `progress` gets steps done of all; it is not
/// called by two threads at once.
std::vector<RecoveryRun> RunRecoveryCases(
    const std::vector<RecoveryCase>& cases, int threads,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress = nullptr);

/// What does not hold, each as "l0 3.4 is not in [3.1, 3.3]"; empty = pass.
std::vector<std::string> Failures(const RecoveryCase& recovery, const RecoveryMetrics& metrics);
/// Of a separation, given all metrics by case.
std::vector<std::string> Failures(const Separation& separation,
                                  const std::map<std::string, RecoveryMetrics>& metrics);

}  // namespace sae::client
