#pragma once
// The part of State::Apply that is about the search of a sweep, and what follows from it for
// tables: the inputs from which its searcher is restored, what it said of each trial, and the
// trials' objectives. Pure functions; not thread-safe, as State.

#include <optional>
#include <string>

#include "sae/base/status.h"
#include "server/core/state.h"

namespace sae::server {

/// SearchReport and SearchDecided; nullopt for any other event.
std::optional<absl::Status> ApplySearch(const LogEvent& event, SweepRecord& sweep,
                                        TrialRecord& trial);

/// The trial's place in SweepRecord::ranked; nullopt = it has none.
std::optional<std::pair<double, int>> PlaceOf(const config::SweepSpec& spec,
                                              const TrialRecord& trial);

/// What an event, once it is applied, tells the searcher of its sweep; nullopt = nothing.
std::optional<search::Input> SearchInputOf(const SweepRecord& sweep, const LogEvent& event);

/// Keeps that, and takes back what the search said of a trial that goes on in spite of it.
void FollowSearch(const LogEvent& event, SweepRecord& sweep);

/// Whether it is paused because the search told it to, and not by a person.
bool HeldBySearch(const TrialRecord& trial);

/// Whether a point is of the kind that carries the sweep's objective.
bool CarriesObjective(const config::SweepSpec& spec, const Point& point);

/// Whether all constraints hold for these values; one that is missing or not finite holds never.
bool IsFeasible(const config::SweepSpec& spec, const std::map<std::string, double>& values);

/// Whether `a` is better by the objective: feasible and finite before all else, then the value,
/// then the lower index; trials without a measurement are last.
bool IsBetter(const config::SweepSpec& spec, const TrialRecord& a, const TrialRecord& b);

/// The best of the trials with a finite value that meet the constraints; null = none yet.
const TrialRecord* BestTrial(const SweepRecord& sweep);

/// For State::DebugString.
std::string SearchDebugString(const SweepRecord& sweep);
std::string SearchDebugString(const TrialRecord& trial);

}  // namespace sae::server
