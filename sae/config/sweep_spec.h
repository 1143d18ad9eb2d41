#pragma once
// A sweep: a trial with parameters that vary, an objective and a search. The CLI reads it from
// YAML, the API carries it as proto SweepSpec, the coordinator keeps it as JSON in its event log;
// all three meet here. Plain values. Errors: INVALID_ARGUMENT listing every problem with its field
// path.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/run_config.h"

namespace sae::config {

/// Holds where the axis `path`, which stands before it in the set, has one of `values`.
struct Condition {
  std::string path;
  std::vector<std::string> values;  ///< JSON scalars as text, as in Parameter
  bool operator==(const Condition&) const = default;
};

/// One axis. Exactly one of the forms is used.
struct Parameter {
  enum class Kind { kValues, kUniform, kLogUniform, kIntUniform };
  std::string path;  ///< of a TrialConfig field: "sae.k"
  Kind kind = Kind::kValues;
  std::vector<std::string> values;    ///< kValues: JSON scalars as text: `8`, `"topk"`
  double min = 0, max = 0, step = 0;  ///< the others; step 0 = none
  /// Of points for which one of them fails, the axis is left out: the trial's own value stands.
  std::vector<Condition> when;
};

/// One grid (or one space to draw from): the product of its axes.
using ParameterSet = std::vector<Parameter>;

struct Constraint {
  std::string metric;
  std::string op;  ///< one of < <= > >=
  double bound = 0;
};

/// Rungs and brackets of `search: asha` and `hyperband`; time is tokens seen by a trial. 0 =
/// default.
struct AshaOptions {
  std::string mode = "stop";   ///< stop | promote
  double max_time = 0;         ///< train.tokens
  double min_time = 0;         ///< max_time / eta^(max_rungs - 1)
  std::int64_t eta = 0;        ///< 4
  std::int64_t max_rungs = 0;  ///< 5
  std::int64_t brackets = 0;   ///< asha: 1; hyperband: as many as rungs
  bool operator==(const AshaOptions&) const = default;
};
struct MedianStopOptions {
  bool enabled = false;
  double grace_tokens = 0;
  std::int64_t min_trials = 5;
  bool operator==(const MedianStopOptions&) const = default;
};
/// "NODE_LOST", ...: names of failure classes.
struct RetryRule {
  std::vector<std::string> on;
  std::int64_t limit = 0;  ///< -1 = without limit
  bool exclude_node = false;
  bool operator==(const RetryRule&) const = default;
};
struct CheckpointPolicy {
  std::int64_t keep_latest = 2;      ///< of each trial
  std::int64_t keep_best = 0;        ///< of each trial, by the objective
  std::int64_t keep_sweep_best = 0;  ///< of the sweep's best trials, one each
  bool operator==(const CheckpointPolicy&) const = default;
};

struct SweepSpec {
  std::string name;
  std::string store;                ///< absolute
  std::string store_hash;           ///< XXH3 text of the store's manifest.json, recorded at submit
  std::int64_t store_d = 0;         ///< width, read from the manifest at submit; 0 = unknown
  std::int64_t store_target_d = 0;  ///< likewise, of its targets; 0 = it has none
  TrialConfig trial;
  std::vector<ParameterSet> parameters;  ///< a union of grids; empty = one trial
  std::string objective_metric = "heldout.fvu";
  bool minimize = true;
  std::vector<Constraint> constraints;
  std::string search = "grid";      ///< grid | random | asha | hyperband
  std::int64_t max_trials = 0;      ///< all but grid: how many
  std::int64_t search_seed = 0;     ///< all but grid
  std::int64_t max_concurrent = 0;  ///< 0 = as many as fit
  /// Trials of a gang that share one stream: 0 = auto, when they outnumber the slots and memory
  /// allows it; 1 = off; N = up to N.
  std::int64_t pack = 0;

  std::map<std::string, std::string> labels;
  std::string queue;             ///< "" = default
  std::int64_t priority = 0;     ///< higher runs first; 0 to 100
  std::string topology = "any";  ///< any | same-node | same-rack
  AshaOptions asha;              ///< search asha and hyperband
  MedianStopOptions median_stop;
  std::vector<RetryRule> retry;  ///< the first that names the class; none = the coordinator's
  CheckpointPolicy checkpoints;
  double grace_seconds = 120;  ///< between notice and kill when a trial is to save and yield
  double progress_timeout_seconds = 600;  ///< without a new step; 0 = never
};

/// What `pack` may be at most.
inline constexpr std::int64_t kMostPacked = 64;

/// One point of a sweep.
struct TrialPoint {
  std::vector<std::pair<std::string, std::string>>
      assignments;  ///< path, JSON scalar; in axis order
  TrialConfig config;
};

/// "heldout.l0 <= 64".
[[nodiscard]] absl::StatusOr<Constraint> ParseConstraint(const std::string& text);
std::string ToText(const Constraint& constraint);
/// A trial's bare name: "0000", "0001", ...; its index in ForEachTrial.
std::string TrialId(std::int64_t index);
/// "sae.k=8 train.seed=1"; "" for a sweep without parameters.
std::string ToText(const TrialPoint& point);

/// From JSON (what YAML becomes); docs/formats/sweep.md has the keys, sweep_schema.h their schema.
/// Unknown keys are errors that name the nearest known one, as are keys that are there twice,
/// nesting without bound and very long texts. UNIMPLEMENTED for `harvest`.
[[nodiscard]] absl::StatusOr<SweepSpec> ParseSweepSpec(const std::string& json);
/// The same form back; ParseSweepSpec(ToJson(s)) == s for one that Validate accepts. (store_hash,
/// store_d and store_target_d stand under `store` as {path, hash, d, target_d} when set, and
/// ParseSweepSpec takes both forms.)
std::string ToJson(const SweepSpec& spec);

/// Every problem: names, ranges, each expanded trial's Validate (with its assignments named),
/// constraint syntax, more than 1e6 points (counted, not made), duplicates, what the search needs.
[[nodiscard]] absl::Status Validate(const SweepSpec& spec);

/// Names of failure classes that a retry rule may list.
const std::vector<std::string>& FailureClassNames();

/// Called with a trial's index and point, which lives during the call alone; an error ends the walk
/// and is its result.
using TrialVisitor = std::function<absl::Status(std::size_t, const TrialPoint&)>;

/// Every trial, one at a time: a million of them held at once would take gigabytes.
/// A grid counts min, min + step, .. <= max (step of intUniform: 1 where 0); logUniform cannot be a
/// grid. Points in a fixed order: sets in order, the last axis fastest; random draws are a function
/// of search_seed and the trial's index alone. What `when` leaves out of a point is not
/// assigned.
[[nodiscard]] absl::Status ForEachTrial(const SweepSpec& spec, const TrialVisitor& visit);

/// How many ForEachTrial visits.
[[nodiscard]] absl::StatusOr<std::size_t> CountTrials(const SweepSpec& spec);

/// All of them, about 1.5 KB each.
[[nodiscard]] absl::StatusOr<std::vector<TrialPoint>> ExpandTrials(const SweepSpec& spec);

}  // namespace sae::config
