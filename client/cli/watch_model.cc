#include "client/cli/watch_model.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

#include "client/cli/table.h"
#include "client/cli/trial_view.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Sweep;
using saeloom::v1::SweepEvent;
using saeloom::v1::Trial;

constexpr int kBarWidth = 12;
constexpr int kFailureLines = 20;

bool Running(Trial::State s) {
  return s == Trial::STATE_RUNNING || s == Trial::STATE_CHECKPOINTING;
}

}  // namespace

double WatchModel::Row::progress() const {
  if (state == Trial::STATE_SUCCEEDED) return 1;
  if (total_steps > 0) return static_cast<double>(step) / static_cast<double>(total_steps);
  return total_tokens > 0 ? static_cast<double>(tokens) / total_tokens : 0;
}

double WatchModel::Row::value(const std::string& name) const {
  const auto it = values.find(name);
  return it == values.end() ? std::numeric_limits<double>::quiet_NaN() : it->second;
}

absl::Duration WatchModel::Row::left() const {
  const double rate = value("tokens_per_second");
  if (!Running(state) || !(rate > 0)) return absl::InfiniteDuration();
  return absl::Seconds(std::max(0.0, total_tokens - static_cast<double>(tokens)) / rate);
}

WatchModel::Row& WatchModel::RowOf(const std::string& id) {
  Row& row = rows_[id];
  row.id = id;
  return row;
}

void WatchModel::SetTrials(const std::vector<Trial>& trials, std::int64_t history_seq) {
  history_seq_ = history_seq;
  for (const Trial& t : trials) {
    Row& row = RowOf(BareName(t.name()));
    row.parameters = ParameterText(t);
    row.total_steps = t.total_steps();
    row.total_tokens = t.config().train().tokens();
    row.state = t.state();
    row.reason = t.reason();
    row.attempt = t.attempt();
    row.step = t.step();
    row.tokens = t.tokens();
    row.values = {t.metrics().begin(), t.metrics().end()};
  }
}

std::string WatchModel::Label(const Row& row) const {
  std::size_t width = 0;
  for (const auto& [id, r] : rows_) width = std::max(width, r.parameters.size());
  std::string text = row.parameters;
  text.resize(std::max(width, text.size()), ' ');
  return absl::StrCat(row.id, "  ", text);
}

std::string WatchModel::PointLine(const Row& row) const {
  return absl::StrCat(Label(row), "  step ", row.step,
                      row.total_steps > 0 ? absl::StrCat("/", row.total_steps) : "", "  ",
                      static_cast<int>(100 * row.progress()), "%  loss ",
                      Number(row.value("train.loss")), "  fvu ", Number(row.value("train.fvu")),
                      "  L0 ", Number(row.value("train.l0")), "  dead ",
                      Percent(row.value("train.dead_fraction")), "  ",
                      Count(row.value("tokens_per_second")), " tokens/s  left ", Span(row.left()));
}

std::vector<std::string> WatchModel::ApplyPoint(Row& row, const SweepEvent& event, absl::Time now) {
  const SweepEvent::Point& p = event.point();
  row.step = std::max<std::int64_t>(p.step(), 0);
  row.tokens = p.tokens();
  for (const auto& [name, value] : p.values()) row.values[name] = value;
  if (event.seq() <= history_seq_ || !options_.progress_lines) return {};
  if (p.evaluation()) {
    const bool last = row.total_steps > 0 && row.step >= row.total_steps;
    if (!last && now - row.last_evaluation < options_.line_every) return {};
    row.last_evaluation = now;
    return {absl::StrCat(Label(row), "  held out at step ", row.step, ": fvu ",
                         Number(row.value("heldout.fvu")), "  L0 ", Number(row.value("heldout.l0")),
                         "  dead ", Percent(row.value("heldout.dead_fraction")))};
  }
  if (now - row.last_line < options_.line_every) return {};
  row.last_line = now;
  return {PointLine(row)};
}

std::vector<std::string> WatchModel::ApplyTrialChange(Row& row,
                                                      const SweepEvent::TrialChange& change) {
  row.state = change.state();
  row.reason = change.reason();
  if (change.attempt() > 0) row.attempt = change.attempt();
  if (!change.worker().empty()) row.worker = change.worker();  // only ALLOCATED names it
  if (row.state == Trial::STATE_PENDING) row.worker.clear();
  // ALLOCATED and STARTING follow each other within a second: only the frame shows them.
  if (row.state == Trial::STATE_ALLOCATED || row.state == Trial::STATE_STARTING) return {};
  if (row.state == Trial::STATE_SUCCEEDED && row.total_steps > 0) row.step = row.total_steps;
  std::string line = absl::StrCat(Label(row), "  ", StateText(row.state));
  if (row.attempt > 1 || change.state() == Trial::STATE_RUNNING)
    absl::StrAppend(&line, "  attempt ", row.attempt);
  if (row.state == Trial::STATE_RUNNING && !row.worker.empty())
    absl::StrAppend(&line, " on ", row.worker);
  if (!row.reason.empty()) absl::StrAppend(&line, ": ", row.reason);
  return {line};
}

std::vector<std::string> WatchModel::Apply(const SweepEvent& event, absl::Time now) {
  if (event.has_heartbeat()) return {};  // its seq is the head, which may not have been sent yet
  last_seq_ = std::max(last_seq_, event.seq());
  if (event.has_sweep_change()) {
    state_ = event.sweep_change().state();
    return {absl::StrCat("sweep ", sweep_, "  ", StateText(state_))};
  }
  if (event.trial().empty()) {
    return event.has_notice() ? std::vector<std::string>{event.notice().text()}
                              : std::vector<std::string>{};
  }
  Row& row = RowOf(event.trial());
  if (event.has_point()) return ApplyPoint(row, event, now);
  if (event.has_trial_change()) return ApplyTrialChange(row, event.trial_change());
  if (event.has_rewound()) {
    const std::int64_t step = event.rewound().step();
    if (row.step > step) {
      row.tokens =
          static_cast<std::int64_t>(static_cast<double>(row.tokens) * static_cast<double>(step) /
                                    static_cast<double>(row.step));
      row.step = step;
    }
    if (row.attempt < event.rewound().attempt()) row.attempt = event.rewound().attempt();
    if (step == 0 && event.rewound().attempt() <= 1) return {};
    return {absl::StrCat(Label(row), "  goes on from step ", step, " (attempt ", row.attempt, ")")};
  }
  std::vector<std::string> lines;
  if (event.has_notice()) {
    // Checkpoints come every minute from every trial: worth a line in a log, not a scrolling
    // screen.
    if (!options_.progress_lines && event.notice().text().rfind("checkpoint ", 0) == 0) return {};
    if (!event.notice().text().empty())
      lines.push_back(absl::StrCat(Label(row), "  ", event.notice().text()));
    const int count = event.notice().lines_size();
    for (int i = std::max(0, count - kFailureLines); i < count; ++i) {
      lines.push_back(absl::StrCat("    | ", event.notice().lines(i)));
    }
  }
  return lines;
}

absl::Duration WatchModel::Left() const {
  double tokens = 0, rate = 0;
  for (const auto& [id, row] : rows_) {
    if (Ended(row.state)) continue;
    tokens += std::max(0.0, row.total_tokens - static_cast<double>(row.tokens));
    if (Running(row.state) && row.value("tokens_per_second") > 0)
      rate += row.value("tokens_per_second");
  }
  if (tokens == 0) return absl::ZeroDuration();
  return rate > 0 ? absl::Seconds(tokens / rate) : absl::InfiniteDuration();
}

std::string WatchModel::Summary() const {
  Sweep counts;
  for (const auto& [id, row] : rows_) ++(*counts.mutable_trials())[StateText(row.state)];
  std::string text = absl::StrCat(sweep_, "  ", StateText(state_), "  ", CountsText(counts));
  if (state_ == Sweep::STATE_RUNNING) absl::StrAppend(&text, "  left ", Span(Left()));
  return text;
}

std::vector<std::string> WatchModel::Frame(int width, int height) const {
  using A = Table::Align;
  Table table({{"TRIAL"},
               {"PARAMETERS"},
               {"STATE"},
               {"STEP", A::kRight},
               {"PROGRESS"},
               {"LOSS", A::kRight},
               {"FVU", A::kRight},
               {"L0", A::kRight},
               {"DEAD", A::kRight},
               {"TOKENS/S", A::kRight},
               {"LEFT", A::kRight},
               {""}});
  std::vector<const Row*> shown;
  for (const auto& [id, row] : rows_) shown.push_back(&row);
  const std::size_t room = static_cast<std::size_t>(std::max(1, height - 3));
  std::size_t hidden = 0;
  if (shown.size() > room) {
    std::stable_sort(shown.begin(), shown.end(), [](const Row* a, const Row* b) {
      const auto rank = [](const Row* r) {
        return Running(r->state) ? 0 : Ended(r->state) ? 2 : 1;
      };
      return rank(a) < rank(b);
    });
    hidden = shown.size() - room;
    shown.resize(room);
  }
  for (const Row* r : shown) {
    const bool live = Running(r->state);
    table.Add(
        {r->id, r->parameters, StateText(r->state),
         r->total_steps > 0 ? absl::StrCat(r->step, "/", r->total_steps) : absl::StrCat(r->step),
         Bar(r->progress(), kBarWidth), Number(r->value("train.loss")),
         Number(r->value("train.fvu")), Number(r->value("train.l0")),
         Percent(r->value("train.dead_fraction")), Count(r->value("tokens_per_second")),
         live ? Span(r->left()) : "", live || r->state == Trial::STATE_SUCCEEDED ? "" : r->reason});
  }
  std::vector<std::string> lines = {Summary()};
  for (std::string& line : table.Lines()) lines.push_back(std::move(line));
  if (hidden > 0) lines.push_back(absl::StrCat("… ", hidden, " more trials"));
  if (width > 0) {
    for (std::string& line : lines) line = Shorten(line, width);
  }
  return lines;
}

}  // namespace sae::cli
