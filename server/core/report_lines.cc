#include "server/core/report_lines.h"

#include "sae/config/events.h"

namespace sae::server {
namespace {
using config::EventKind;

/// What `started` means depends on what the attempt was before.
void Started(const TrialRecord& trial, const config::Event& event, TrialState& state,
             std::vector<Body>& out) {
  const int attempt = trial.attempts.back().number;
  if (state == TrialState::kRunning) {
    out.push_back(Notice{attempt, absl::StrCat("started again at step ", event.from_step), {}});
    return;
  }
  const bool stopping = state == TrialState::kCheckpointing;  // it is, until it has ended
  if (state == TrialState::kAllocated) out.push_back(AttemptStarting{attempt});
  out.push_back(AttemptRunning{attempt, event.from_step});
  if (attempt > 1) out.push_back(Rewound{attempt, event.from_step});
  if (!stopping) state = TrialState::kRunning;
}

/// A number that a trainer said, or 0 where it makes no sense.
double Sane(const config::Event& event, const std::string& name) {
  constexpr double kMost = 1e18;
  const auto it = event.values.find(name);
  return it != event.values.end() && it->second > 0 && it->second < kMost ? it->second : 0;
}

CheckpointSaved Saved(int attempt, const config::Event& event) {
  return {attempt,
          event.checkpoint,
          event.step,
          event.tokens,
          Sane(event, "ms.save") / 1e3,
          static_cast<std::int64_t>(Sane(event, "bytes.save"))};
}

/// Its word becomes a label of a metric: none but those that are known.
Notice Warned(int attempt, const config::Event& event) {
  const bool known = event.failed == "write" || event.failed == "read";
  return {attempt, absl::StrCat("warning: ", event.message), {}, known ? event.failed : ""};
}

bool CountsLate(const config::Event& event, std::int64_t effective_up_to) {
  const bool kind = event.kind == EventKind::kMetrics || event.kind == EventKind::kEvaluation ||
                    event.kind == EventKind::kCheckpoint;
  return kind && event.step <= effective_up_to;
}

std::string VerdictOf(EventKind kind) { return config::ToString(kind); }

}  // namespace

absl::StatusOr<std::vector<Body>> EventsOfLines(const TrialRecord& trial, int attempt,
                                                std::int64_t first_seq,
                                                const std::vector<std::string>& lines) {
  std::vector<Body> out;
  TrialState state = trial.state;
  const AttemptRecord* live = trial.live_attempt();
  const bool late = live == nullptr || live->number != attempt;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::int64_t seq = first_seq + static_cast<std::int64_t>(i);
    auto event = config::ParseEvent(lines[i]);
    if (!event.ok()) {
      out.push_back(Notice{
          attempt, absl::StrCat("line ", seq, " of events.jsonl: ", Message(event.status())), {}});
      continue;
    }
    if (event->seq != seq) {
      return absl::InvalidArgumentError(absl::StrCat("lines: the line at seq ", seq, " of ",
                                                     TrialNameOf(trial.index), " says seq ",
                                                     event->seq));
    }
    if (late && !CountsLate(*event, trial.EffectiveUpTo(attempt))) continue;
    switch (event->kind) {
      case EventKind::kStarted:
        Started(trial, *event, state, out);
        break;
      case EventKind::kMetrics:
      case EventKind::kEvaluation:
        out.push_back(Point{attempt, event->step, event->tokens,
                            event->kind == EventKind::kEvaluation, std::move(event->values)});
        break;
      case EventKind::kCheckpoint:
        out.push_back(Saved(attempt, *event));
        break;
      case EventKind::kWarning:
        out.push_back(Warned(attempt, *event));
        break;
      case EventKind::kYielded:
      case EventKind::kStopped:
      case EventKind::kFinished:
      case EventKind::kFailed:
        out.push_back(AttemptVerdict{attempt, VerdictOf(event->kind), event->message, event->step});
        break;
    }
  }
  return out;
}

}  // namespace sae::server
