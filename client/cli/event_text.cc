#include "client/cli/event_text.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

#include "client/cli/json_view.h"
#include "client/cli/table.h"
#include "client/cli/trial_view.h"

namespace sae::cli {
namespace {
using saeloom::v1::SweepEvent;

std::string EventCountsText(const SweepEvent::Counts& counts) {
  const std::map<std::string, std::int64_t> sorted(counts.trials().begin(), counts.trials().end());
  std::string out = "counts";
  for (const auto& [state, count] : sorted) absl::StrAppend(&out, " ", state, "=", count);
  return out;
}

std::string PointText(const SweepEvent::Point& point) {
  const std::map<std::string, double> sorted(point.values().begin(), point.values().end());
  std::string out = absl::StrCat(point.evaluation() ? "evaluation" : "step", " ", point.step());
  for (const auto& [name, value] : sorted) absl::StrAppend(&out, " ", name, "=", Number(value));
  return out;
}

std::string ChangeText(const SweepEvent::TrialChange& change) {
  std::string out = StateText(change.state());
  if (change.attempt() > 0) absl::StrAppend(&out, " attempt ", change.attempt());
  if (!change.worker().empty()) absl::StrAppend(&out, " on ", change.worker());
  if (change.failure_class() != saeloom::v1::FAILURE_CLASS_UNSPECIFIED) {
    absl::StrAppend(&out, " ",
                    EnumName(saeloom::v1::FailureClass_descriptor()->FindValueByNumber(
                        change.failure_class())));
  }
  if (!change.reason().empty()) absl::StrAppend(&out, ": ", change.reason());
  return out;
}

std::string Text(const SweepEvent& event) {
  switch (event.kind_case()) {
    case SweepEvent::kTrialChange:
      return ChangeText(event.trial_change());
    case SweepEvent::kSweepChange:
      return "sweep " + StateText(event.sweep_change().state());
    case SweepEvent::kPoint:
      return PointText(event.point());
    case SweepEvent::kRewound:
      return absl::StrCat("rewound to step ", event.rewound().step(), " by attempt ",
                          event.rewound().attempt());
    case SweepEvent::kHeartbeat:
      return "heartbeat";
    case SweepEvent::kNotice: {
      std::string out = event.notice().text();
      for (const std::string& line : event.notice().lines()) absl::StrAppend(&out, "\n  | ", line);
      return out;
    }
    case SweepEvent::kResync:
      return absl::StrCat(event.resync().dropped(), " points left out: this reader is too slow");
    case SweepEvent::kCounts:
      return EventCountsText(event.counts());
    case SweepEvent::kDecision:
      return absl::StrCat("rung ", event.decision().rung(), ": ", event.decision().decision(),
                          " at ", Number(event.decision().value()));
    default:
      return "an event that this version does not know";
  }
}

}  // namespace

std::string EventLine(const SweepEvent& event) {
  const absl::Time time =
      absl::FromUnixSeconds(event.time().seconds()) + absl::Nanoseconds(event.time().nanos());
  return absl::StrFormat("%s %6d  %-4s  %s",
                         absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone()),
                         event.seq(), event.trial().empty() ? "-" : event.trial(), Text(event));
}

}  // namespace sae::cli
