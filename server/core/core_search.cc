// The searches of sweeps: measurements that they wait for, what they decide, and trials that go on,
// wait or are given up because of it. A searcher is a cache of the state: it is told what its
// sweep's record holds, and made anew from that whenever the two may differ.
#include <algorithm>
#include <cmath>
#include <limits>
#include <spdlog/spdlog.h>

#include "absl/strings/str_format.h"

#include "sae/config/search_rungs.h"
#include "server/core/core.h"
#include "server/core/state_search.h"

namespace sae::server {
namespace {

constexpr int kPointsBack = 1024;  ///< of a trial, where its last objective is looked for

SearchReport ReportOf(const config::SweepSpec& spec, const Point& point, std::int64_t tokens) {
  const auto value = point.values.find(spec.objective_metric);
  return {point.attempt, point.step, tokens,
          value == point.values.end() ? std::numeric_limits<double>::quiet_NaN() : value->second,
          IsFeasible(spec, point.values)};
}

std::string ReasonFor(const config::SweepSpec& spec, const search::Decision& decision,
                      double value) {
  const std::string seen = absl::StrFormat("%s %.6g", spec.objective_metric, value);
  if (decision.rung == 0) return absl::StrCat("worse than the median: ", seen);
  const auto rungs = static_cast<int>(config::RungTokens(spec).size());
  if (decision.action == search::Action::kPause)
    return absl::StrCat("waits at rung ", decision.rung, " of ", rungs, ": ", seen);
  if (decision.rung == rungs) return absl::StrCat("done at the last rung: ", seen);
  return absl::StrCat("not among the best at rung ", decision.rung, " of ", rungs, ": ", seen);
}

/// Whether a request to stop that is under way gives way to `wanted`: to save and wait gives way to
/// an end, being preempted to both.
bool GivesWay(StopWanted under_way, StopWanted wanted) {
  if (under_way == StopWanted::kNone || under_way == StopWanted::kPreempt) return true;
  return under_way == StopWanted::kPause && wanted == StopWanted::kStopEarly;
}

}  // namespace

struct Core::Search {
  std::unique_ptr<search::Searcher> searcher;
  std::size_t told = 0;     ///< inputs of the sweep's record
  std::set<int> unsettled;  ///< trials to look at in the next cycle
};

/// What a transaction says of each trial, for events that are put between its own.
struct Core::SearchPass {
  std::vector<LogEvent> out;
  std::set<std::pair<std::string, std::string>> ending;  ///< ends or is told to stop by the rest
  std::set<std::string> touched;
};

Core::SearchTable::SearchTable() = default;
Core::SearchTable::~SearchTable() = default;

Core::Search* Core::SearchOf(const SweepRecord& sweep) {
  if (!config::IsSearching(sweep.spec)) return nullptr;
  auto& entry = searches_.of[sweep.name];
  if (entry == nullptr) {
    entry = std::make_unique<Search>();
    entry->searcher = search::MakeSearcher(sweep.spec);
    for (const search::Input& input : sweep.search_inputs) {
      if (!options_.planted.Is(PlantedBug::kSearchForgets)) entry->searcher->Tell(input);
    }
    entry->told = sweep.search_inputs.size();
    for (const TrialRecord& trial : sweep.trials) {
      if (trial.search_said != search::Action::kContinue) entry->unsettled.insert(trial.index);
    }
  }
  return entry.get();
}

void Core::TellSearch(const SweepRecord& sweep, Search& search, const LogEvent& event,
                      std::vector<search::Decision>& decisions) {
  const auto input = SearchInputOf(sweep, event);
  if (!input) return;
  decisions = search.searcher->Tell(*input);
  ++search.told;
}

void Core::ForgetSearches() {
  searches_.of.clear();
  searches_.touched.clear();
}

void Core::LookAtPoint(const SweepRecord& sweep, const LogEvent& event, SearchPass& pass) {
  const auto& point = std::get<Point>(event.body);
  const TrialRecord* trial = sweep.trial(event.trial);
  Search* search = SearchOf(sweep);
  if (trial == nullptr || search == nullptr) return;
  const double look = search->searcher->NextLook(trial->index);
  if (look == search::kNever) return;
  // Whole steps may end a little before the tokens of the last rung: then it has seen all.
  std::int64_t tokens = point.tokens;
  bool complete = false;
  if (static_cast<double>(tokens) * 2 >= look) {
    const config::TrialConfig config = sweep.Config(*trial);
    complete = point.step >= config::TotalSteps(config);
    if (complete && config.train.tokens < 9e18)
      tokens = std::max(tokens, static_cast<std::int64_t>(std::ceil(config.train.tokens)));
  }
  if (static_cast<double>(tokens) < look) return;

  const SearchReport report = ReportOf(sweep.spec, point, tokens);
  const auto add = [&](Body body) {
    pass.out.push_back({event.sweep, 0, event.time, event.trial, std::move(body)});
  };
  std::vector<search::Decision> decisions;
  add(report);
  pass.touched.insert(sweep.name);
  TellSearch(sweep, *search, pass.out.back(), decisions);
  for (const search::Decision& d : decisions) {
    add(SearchDecided{d.rung, report.value, search::ToString(d.action)});
    search->unsettled.insert(trial->index);
    if (d.action != search::Action::kStop && d.action != search::Action::kPause) continue;
    const StopWanted wanted =
        d.action == search::Action::kStop ? StopWanted::kStopEarly : StopWanted::kPause;
    const AttemptRecord* live = trial->live_attempt();
    const bool can = live != nullptr && live->number == point.attempt && !complete &&
                     !sweep.cancel_requested && GivesWay(live->stop_wanted, wanted) &&
                     !pass.ending.contains({event.sweep, event.trial});
    if (can) add(StopRequested{point.attempt, wanted, ReasonFor(sweep.spec, d, report.value)});
  }
}

std::optional<SearchReport> Core::LastObjective(const SweepRecord& sweep, const TrialRecord& trial,
                                                const SearchPass& pass) {
  const std::string name = TrialNameOf(trial.index);
  for (auto event = pass.out.rbegin(); event != pass.out.rend(); ++event) {
    const auto* point = std::get_if<Point>(&event->body);
    if (point != nullptr && event->sweep == sweep.name && event->trial == name &&
        CarriesObjective(sweep.spec, *point)) {
      return ReportOf(sweep.spec, *point, point->tokens);
    }
  }
  std::int64_t before = std::numeric_limits<std::int64_t>::max();
  for (int seen = 0; seen < kPointsBack;) {
    const auto events = store_.ReadPointsBackward(sweep.name, name, before, 32);
    if (!events.ok() || events->empty()) return std::nullopt;  // tables do without
    for (const LogEvent& event : *events) {
      const auto& point = std::get<Point>(event.body);
      if (CarriesObjective(sweep.spec, point) && point.step <= trial.EffectiveUpTo(point.attempt))
        return ReportOf(sweep.spec, point, point.tokens);
    }
    before = events->back().seq;
    seen += static_cast<int>(events->size());
  }
  return std::nullopt;
}

void Core::AddSearchEvents(Transaction& all) {
  SearchPass pass;
  for (const LogEvent& event : all.events) {
    if (std::holds_alternative<AttemptEnded>(event.body) ||
        std::holds_alternative<StopRequested>(event.body))
      pass.ending.insert({event.sweep, event.trial});
  }
  pass.out.reserve(all.events.size() + 4);
  for (LogEvent& event : all.events) {
    pass.out.push_back(std::move(event));
    const LogEvent& here = pass.out.back();
    const SweepRecord* sweep = here.trial.empty() ? nullptr : state_.sweep(here.sweep);
    const TrialRecord* trial = sweep == nullptr ? nullptr : sweep->trial(here.trial);
    if (trial == nullptr) continue;
    if (std::holds_alternative<Point>(here.body)) {
      if (!config::IsSearching(sweep->spec) ||
          !CarriesObjective(sweep->spec, std::get<Point>(here.body)))
        continue;
      const LogEvent copy = here;  // what follows is put behind it
      LookAtPoint(*sweep, copy, pass);
      continue;
    }
    Search* search = SearchOf(*sweep);
    std::vector<search::Decision> none;
    if (search != nullptr) {
      TellSearch(*sweep, *search, here, none);
      search->unsettled.insert(trial->index);
      pass.touched.insert(sweep->name);
    }
    const auto* ended = std::get_if<AttemptEnded>(&here.body);
    if (ended == nullptr ||
        (ended->next != TrialState::kSucceeded && ended->next != TrialState::kStoppedEarly))
      continue;
    // So that tables of what has ended need no telemetry.
    const std::optional<SearchReport> last = LastObjective(*sweep, *trial, pass);
    if (!last || (trial->objective && trial->objective->step == last->step)) continue;
    pass.out.push_back({here.sweep, 0, here.time, here.trial, *last});
    if (search != nullptr) TellSearch(*sweep, *search, pass.out.back(), none);
  }
  all.events = std::move(pass.out);
  searches_.touched = std::move(pass.touched);
}

void Core::CheckSearches() {
  for (const std::string& name : std::exchange(searches_.touched, {})) {
    const auto it = searches_.of.find(name);
    if (it == searches_.of.end()) continue;
    const SweepRecord* sweep = state_.sweep(name);
    // After a commit that failed, or an event that the state refused: made anew when it is needed.
    if (sweep == nullptr || it->second->told != sweep->search_inputs.size() ||
        HasEnded(sweep->state))
      searches_.of.erase(it);
  }
}

void Core::Settle(Transaction& transaction, const SweepRecord& sweep, Search& search) {
  for (const int index : std::exchange(search.unsettled, {})) {
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
    const std::string name = TrialNameOf(index);
    const std::string why = trial.objective
                                ? absl::StrCat(" the search said at ", sweep.spec.objective_metric,
                                               " ", absl::StrFormat("%.6g", trial.objective->value))
                                : std::string(" the search said");
    if (trial.search_said == search::Action::kStop &&
        (trial.state == TrialState::kPending || trial.state == TrialState::kPaused))
      Add(transaction, sweep.name, name, StopRequested{0, StopWanted::kStopEarly, "stop," + why});
    if (trial.search_said == search::Action::kPause && trial.state == TrialState::kPending)
      Add(transaction, sweep.name, name, TrialPaused{"wait," + why});
  }
}

void Core::Promote(Transaction& transaction, const SweepRecord& sweep, Search& search) {
  std::set<int> chosen;
  const auto ready = [&](int index) {
    return !chosen.contains(index) && HeldBySearch(sweep.trials[static_cast<std::size_t>(index)]);
  };
  if (!search.searcher->NextPromotion(ready)) return;
  // What has been resumed and waits for its slots takes the first of them.
  std::int64_t room = sweep.spec.max_concurrent > 0
                          ? sweep.spec.max_concurrent - static_cast<std::int64_t>(sweep.live.size())
                          : std::numeric_limits<std::int64_t>::max();
  std::int64_t free = 0;
  for (const auto& [id, worker] : workers_) free += worker.ready ? FreeSlots(worker) : 0;
  for (const int index : sweep.pending) {
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
    if (trial.rung == 0) continue;
    --room;
    free -= trial.slots;
  }
  while (room > 0) {
    const std::optional<search::Decision> next = search.searcher->NextPromotion(ready);
    if (!next) break;
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(next->trial)];
    if (free < trial.slots) break;
    const std::string name = TrialNameOf(next->trial);
    const double value = trial.objective ? trial.objective->value : 0;
    Add(transaction, sweep.name, name,
        SearchDecided{next->rung, value, search::ToString(next->action)});
    Add(transaction, sweep.name, name, TrialResumed{absl::StrCat("promoted to rung ", next->rung)});
    chosen.insert(next->trial);
    free -= trial.slots;
    --room;
  }
}

void Core::GiveUpWaiting(Transaction& transaction, const SweepRecord& sweep, Search& search) {
  if (!sweep.live.empty() || !sweep.pending.empty() || sweep.paused.empty()) return;
  const auto held = [&](int index) {
    return HeldBySearch(sweep.trials[static_cast<std::size_t>(index)]);
  };
  // One that a person has paused: what it reaches may promote others.
  if (search.searcher->NextPromotion(held) ||
      !std::all_of(sweep.paused.begin(), sweep.paused.end(), held))
    return;
  for (const int index : sweep.paused) {
    Add(transaction, sweep.name, TrialNameOf(index),
        StopRequested{0, StopWanted::kStopEarly,
                      absl::StrCat("never promoted from rung ",
                                   sweep.trials[static_cast<std::size_t>(index)].rung)});
  }
}

bool Core::RunSearches() {
  std::vector<std::string> names;  // a commit below may change the order of all
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    if (!HasEnded(sweep.state) && !sweep.cancel_requested && config::IsSearching(sweep.spec))
      names.push_back(name);
  }
  for (const std::string& name : names) {
    const SweepRecord& sweep = *state_.sweep(name);
    Search* search = SearchOf(sweep);
    if (search == nullptr) continue;
    Transaction transaction;
    const std::set<int> unsettled = search->unsettled;
    Settle(transaction, sweep, *search);
    if (transaction.empty() && sweep.state == SweepState::kRunning) {
      Promote(transaction, sweep, *search);
      if (transaction.empty()) GiveUpWaiting(transaction, sweep, *search);
    }
    if (transaction.empty()) continue;
    EndSweeps(transaction);
    if (Commit(std::move(transaction)).ok()) continue;
    // The next cycle tries again.
    if (Search* again = SearchOf(sweep))
      again->unsettled.insert(unsettled.begin(), unsettled.end());
    return false;
  }
  return true;
}

std::string Core::SearchDebugString(const std::string& sweep) const {
  const auto it = searches_.of.find(sweep);
  return it == searches_.of.end() ? "" : it->second->searcher->DebugString();
}

}  // namespace sae::server
