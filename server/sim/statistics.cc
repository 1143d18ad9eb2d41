#include "server/sim/statistics.h"

#include <set>

#include "absl/strings/str_cat.h"

#include "sae/config/search_rungs.h"
#include "server/sim/log_model.h"

namespace sae::server::sim {
namespace {

void CountSweep(const config::SweepSpec& spec, Statistics& counts) {
  const bool rungs = !config::RungTokens(spec).empty();
  ++counts[absl::StrCat("sweep ", spec.search, rungs ? " " + spec.asha.mode : "")];
  if (spec.median_stop.enabled) ++counts["sweep median stop"];
  for (const config::ParameterSet& set : spec.parameters) {
    for (const config::Parameter& axis : set)
      counts["sweep condition"] += axis.when.empty() ? 0 : 1;
  }
}

void CountAllocated(const LogModel& model, const LogEvent& event, Statistics& counts) {
  const auto& allocated = std::get<AttemptAllocated>(event.body);
  if (!allocated.gang.empty()) ++counts["gang packed"];
  if (!allocated.hosts.empty()) ++counts["gang over several workers"];
  const SweepModel& sweep = model.sweeps.at(event.sweep);
  const auto queue = model.queues.find(sweep.queue);
  if (queue != model.queues.end() && queue->second.quota > 0 &&
      model.InUse(sweep.queue) == queue->second.quota)
    ++counts["quota filled"];
  if (sweep.max_concurrent > 0 && model.Live(sweep) == sweep.max_concurrent)
    ++counts["max_concurrent filled"];
}

void CountEvent(const LogModel& model, const LogEvent& event, Statistics& counts) {
  ++counts[absl::StrCat("event ", KindOf(event.body))];
  if (std::holds_alternative<SweepCreated>(event.body))
    CountSweep(model.sweeps.at(event.sweep).spec, counts);
  if (std::holds_alternative<AttemptAllocated>(event.body)) CountAllocated(model, event, counts);
  if (const auto* e = std::get_if<AttemptEnded>(&event.body)) {
    const std::string failure = ToString(e->failure_class);
    ++counts[absl::StrCat("ended ", e->outcome, failure.empty() ? "" : " ", failure)];
  }
  if (const auto* e = std::get_if<SearchDecided>(&event.body))
    ++counts[absl::StrCat("search ", e->decision)];
  if (const auto* e = std::get_if<StopRequested>(&event.body))
    ++counts[absl::StrCat("stop to ", ToString(e->wanted))];
  if (const auto* e = std::get_if<WorkerCordoned>(&event.body))
    ++counts[absl::StrCat(e->drain ? "drain" : "cordon", e->by_person ? "" : " of a bad worker")];
}

std::string NameOf(ClientOp::Kind kind) {
  switch (kind) {
    case ClientOp::Kind::kSubmit:
      return "submit";
    case ClientOp::Kind::kCancel:
      return "cancel";
    case ClientOp::Kind::kRetry:
      return "retry";
    case ClientOp::Kind::kPause:
      return "pause";
    case ClientOp::Kind::kResume:
      return "resume";
    case ClientOp::Kind::kUpdate:
      return "update";
    case ClientOp::Kind::kOther:
      break;
  }
  return "other";
}

}  // namespace

void Count(const History& history, Statistics& statistics) {
  for (const auto& [name, n] : history.counts) statistics[name] += n;
  ReadLog(history.log, nullptr, [&](const LogModel& model, const LogEvent& event, std::size_t) {
    CountEvent(model, event, statistics);
  });
  for (const ClientOp& op : history.operations) {
    const char* outcome = op.outcome == ClientOp::Outcome::kOk        ? " done"
                          : op.outcome == ClientOp::Outcome::kRefused ? " refused"
                                                                      : " unanswered";
    ++statistics[absl::StrCat("call ", NameOf(op.kind), outcome)];
  }
  for (const Watch& watch : history.watches)
    statistics["event seen by a watcher"] += static_cast<std::int64_t>(watch.seen.size());
}

}  // namespace sae::server::sim
