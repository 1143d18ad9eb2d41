// I9: what the searches decided, judged by searchers of the checker's own that are told the log.
#include <cmath>
#include <deque>
#include <memory>

#include "absl/strings/str_cat.h"

#include "sae/config/search_rungs.h"
#include "server/search/searcher.h"
#include "server/sim/checker.h"
#include "server/sim/log_model.h"

namespace sae::server::sim {
namespace {
using search::Input;

std::string NameOf(const LogEvent& event) {
  return absl::StrCat(event.sweep, "/", event.trial, " seq ", event.seq, " ", KindOf(event.body));
}

std::optional<Input::Kind> KindOfEnd(const AttemptEnded& e) {
  if (e.next == TrialState::kSucceeded || e.next == TrialState::kStoppedEarly)
    return Input::Kind::kDone;
  if (e.next == TrialState::kCancelled) return Input::Kind::kCancelled;
  if (e.next != TrialState::kFailed) return std::nullopt;
  return e.failure_class == FailureClass::kInvalidConfig ? Input::Kind::kInvalid
                                                         : Input::Kind::kFailed;
}

/// What an event means to the search of its sweep.
std::optional<Input> InputOf(const config::SweepSpec& spec, const LogEvent& event) {
  std::optional<Input::Kind> kind;
  const auto* report = std::get_if<SearchReport>(&event.body);
  const auto* stop = std::get_if<StopRequested>(&event.body);
  if (report != nullptr) kind = Input::Kind::kReport;
  if (stop != nullptr && stop->attempt == 0) kind = Input::Kind::kDone;
  if (std::holds_alternative<TrialResumed>(event.body)) kind = Input::Kind::kResumed;
  if (std::holds_alternative<TrialRetried>(event.body)) kind = Input::Kind::kRetried;
  if (std::holds_alternative<TrialCancelled>(event.body)) kind = Input::Kind::kCancelled;
  if (const auto* ended = std::get_if<AttemptEnded>(&event.body)) kind = KindOfEnd(*ended);
  if (!kind) return std::nullopt;
  Input input{*kind, IndexOfTrial(event.trial)};
  if (report != nullptr) {
    input.tokens = static_cast<double>(report->tokens);
    const bool good = report->feasible && std::isfinite(report->value);
    input.loss = good ? (spec.minimize ? report->value : -report->value) : search::kWorst;
  }
  return input;
}

struct Searched {
  std::unique_ptr<search::Searcher> searcher;
  std::deque<search::Decision> due;  ///< must be in the log next
  std::map<int, std::string> said;   ///< of each trial, while it stands
};

class SearchCheck {
 public:
  explicit SearchCheck(Breaches& out) : out_(out) {}

  void Before(const LogModel& model, const LogEvent& event) {
    const auto it = searched_.find(event.sweep);
    if (it == searched_.end() || event.trial.empty()) return;
    Searched& s = it->second;
    const int trial = IndexOfTrial(event.trial);
    if (const auto* decided = std::get_if<SearchDecided>(&event.body)) {
      Judge(model, event, *decided, s);
      s.said[trial] = decided->decision;
      return;
    }
    if (!s.due.empty()) {
      Breach(event, absl::StrCat("trial ", s.due.front().trial, " was to be told to ",
                                 search::ToString(s.due.front().action), " before it"));
      s.due.clear();
    }
    if (!std::holds_alternative<AttemptAllocated>(event.body)) return;
    const std::string& said = s.said[trial];
    if (said == "stop" || said == "pause") Breach(event, "the search had said " + said);
  }

  void After(const LogModel& model, const LogEvent& event) {
    if (std::holds_alternative<SweepCreated>(event.body)) {
      const config::SweepSpec& spec = model.sweeps.at(event.sweep).spec;
      if (config::IsSearching(spec)) searched_[event.sweep].searcher = search::MakeSearcher(spec);
      return;
    }
    const auto it = searched_.find(event.sweep);
    if (it == searched_.end() || event.trial.empty()) return;
    const auto input = InputOf(model.sweeps.at(event.sweep).spec, event);
    if (!input) return;
    Searched& s = it->second;
    for (const search::Decision& d : s.searcher->Tell(*input)) s.due.push_back(d);
    if (input->kind == Input::Kind::kResumed || input->kind == Input::Kind::kRetried)
      s.said.erase(input->trial);
  }

 private:
  void Judge(const LogModel& model, const LogEvent& event, const SearchDecided& decided,
             Searched& s) {
    const int trial = IndexOfTrial(event.trial);
    std::optional<search::Decision> expected;
    if (!s.due.empty()) {
      expected = s.due.front();
      s.due.pop_front();
    } else {
      expected = s.searcher->NextPromotion([&](int index) {
        const TrialModel* t = model.trial(event.sweep, config::TrialId(index));
        return t != nullptr && t->paused && s.said[index] == "pause";
      });
    }
    const bool same = expected && expected->trial == trial && expected->rung == decided.rung &&
                      search::ToString(expected->action) == decided.decision;
    if (same) return;
    Breach(event,
           absl::StrCat("it says ", decided.decision, " at rung ", decided.rung,
                        ", the log before it gives ",
                        expected ? absl::StrCat(search::ToString(expected->action), " of trial ",
                                                expected->trial, " at rung ", expected->rung)
                                 : std::string("nothing")));
  }
  void Breach(const LogEvent& event, const std::string& what) {
    out_.push_back(absl::StrCat(NameOf(event), ": ", what));
  }

  Breaches& out_;
  std::map<std::string, Searched> searched_;
};

}  // namespace

Breaches CheckSearch(const History& history) {
  Breaches out;
  SearchCheck check(out);
  ReadLog(
      history.log,
      [&](const LogModel& model, const LogEvent& event, std::size_t) {
        check.Before(model, event);
      },
      [&](const LogModel& model, const LogEvent& event, std::size_t) {
        check.After(model, event);
      });
  return out;
}

}  // namespace sae::server::sim
