#pragma once
// Which trials of a sweep go on. A searcher is a pure fold: told the same inputs in the same order
// it decides the same, so that replaying the log restores it. Time is tokens seen by a trial, as
// its points say. Losses are to be made small; what is not finite or breaks a constraint is
// +infinity, the worst; ties go to the lower trial. Inputs about trials that it does not expect
// (late, twice, out of order) change nothing. Not thread-safe. Never fails.

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sae/config/sweep_spec.h"

namespace sae::server::search {

inline constexpr double kNever = std::numeric_limits<double>::infinity();
inline constexpr double kWorst = std::numeric_limits<double>::infinity();

/// What a search is told.
struct Input {
  enum class Kind : std::uint8_t {
    kReport,     ///< a measurement
    kResumed,    ///< goes on from a pause: promoted, by the search or by a person
    kDone,       ///< ended well, or was given up by the search
    kCancelled,  ///< ended by a person: says nothing about its worth
    kInvalid,    ///< ended for good: its configuration can never run
    kFailed,     ///< ended for good in another way
    kRetried,    ///< a person asked for it again
  };
  Kind kind = Kind::kReport;
  int trial = 0;
  double tokens = 0;     ///< kReport
  double loss = kWorst;  ///< kReport
  bool operator==(const Input&) const = default;
};

enum class Action : std::uint8_t { kContinue, kStop, kPause, kPromote };
/// "continue", "stop", "pause", "promote".
std::string ToString(Action action);

struct Decision {
  int trial = 0;
  int rung = 0;  ///< from 1, of config::RungTokens; 0 = by the median, at no rung
  Action action = Action::kContinue;
  bool operator==(const Decision&) const = default;
};

class Searcher {
 public:
  virtual ~Searcher() = default;
  /// A report of `trial` matters from so many tokens on; kNever = none does.
  virtual double NextLook(int trial) = 0;
  /// What follows for the trial, by rising rung: one for each rung that a report has passed, none
  /// after one that ends or pauses it.
  virtual std::vector<Decision> Tell(const Input& input) = 0;
  /// The paused trial that is to go on first, of those for which `ready`; it counts as promoted
  /// once Tell has been told kResumed.
  virtual std::optional<Decision> NextPromotion(const std::function<bool(int)>& ready) {
    (void)ready;
    return std::nullopt;
  }
  /// All state as text: equal strings, equal decisions from here on.
  virtual std::string DebugString() const = 0;
};

/// The searcher of a sweep that Validate accepts; one that lets all points run where nothing is
/// searched.
std::unique_ptr<Searcher> MakeSearcher(const config::SweepSpec& spec);

/// The loss of a measurement.
double LossOf(const config::SweepSpec& spec, double value, bool feasible);

}  // namespace sae::server::search
