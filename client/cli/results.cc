#include "client/cli/results.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "client/cli/table.h"
#include "client/cli/trial_view.h"
#include "proto/convert/sweep_convert.h"
#include "sae/config/sweep_spec.h"

namespace sae::cli {
namespace {
using saeloom::v1::Trial;

/// A controlled L0 is near its target, not at it: a front is continued so far.
constexpr double kBeyondEnds = 0.1;

bool Meets(double value, const config::Constraint& c) {
  if (!std::isfinite(value)) return false;
  if (c.op == "<") return value < c.bound;
  if (c.op == "<=") return value <= c.bound;
  if (c.op == ">") return value > c.bound;
  return value >= c.bound;
}

bool Feasible(const Trial& trial, const saeloom::v1::Objective& objective) {
  if (trial.state() != Trial::STATE_SUCCEEDED && trial.state() != Trial::STATE_STOPPED_EARLY)
    return false;
  if (!std::isfinite(MetricOf(trial, objective.metric()))) return false;
  return std::all_of(objective.constraints().begin(), objective.constraints().end(),
                     [&](const std::string& text) {
                       const auto c = config::ParseConstraint(text);
                       return c.ok() && Meets(MetricOf(trial, c->metric), *c);
                     });
}

bool HasAuxK(const std::string& architecture) {
  return architecture == "topk" || architecture == "batchtopk" || architecture == "matryoshka";
}

ResultRow Row(const Trial& t, const saeloom::v1::Objective& objective) {
  ResultRow r;
  r.trial = BareName(t.name());
  r.parameters = ParameterText(t);
  r.architecture = t.config().sae().architecture();
  r.series = SeriesText(t);
  r.transcoder = t.config().sae().transcoder();
  r.state = StateText(t.state());
  r.fvu = MetricOf(t, "heldout.fvu");
  r.explained_variance = MetricOf(t, "heldout.explained_variance");
  if (std::isnan(r.explained_variance)) r.explained_variance = 1 - r.fvu;
  r.l0 = MetricOf(t, "heldout.l0");
  r.dead_fraction = MetricOf(t, "heldout.dead_fraction");
  r.gamma = MetricOf(t, "heldout.gamma");
  r.tokens_per_second = MetricOf(t, "tokens_per_second");
  r.objective = MetricOf(t, objective.metric());
  r.feasible = Feasible(t, objective);
  r.aux_off =
      HasAuxK(r.architecture) && t.config().sae().has_aux_k() && t.config().sae().aux_k() == 0;
  return r;
}

/// Transcoders and autoencoders explain different things: a front each.
void MarkFronts(Results& results) {
  constexpr double kNowhere = std::numeric_limits<double>::quiet_NaN();
  for (const bool transcoder : {false, true}) {
    std::vector<FrontPoint> points;
    for (const ResultRow& r : results.rows) {
      const bool mine = r.transcoder == transcoder;
      points.push_back({mine ? r.l0 : kNowhere, mine ? r.fvu : kNowhere});
    }
    for (const std::size_t i : ParetoFront(points)) results.rows[i].on_front = true;
  }
}

bool IsTranscoder(const Results& results, const std::string& series) {
  return std::any_of(results.rows.begin(), results.rows.end(),
                     [&](const ResultRow& r) { return r.series == series && r.transcoder; });
}

std::string ObjectiveText(const saeloom::v1::Objective& o) {
  std::string text = absl::StrCat(
      o.goal() == saeloom::v1::Objective::GOAL_MAXIMIZE ? "largest " : "smallest ", o.metric());
  if (o.constraints_size() > 0)
    absl::StrAppend(&text, " with ", absl::StrJoin(o.constraints(), ", "));
  return text;
}

void FindAuxPairs(const std::vector<Trial>& trials, Results& results) {
  const auto same_but_aux = [](Trial a, Trial b) {
    a.mutable_config()->mutable_sae()->clear_aux_k();
    b.mutable_config()->mutable_sae()->clear_aux_k();
    return a.config().SerializeAsString() == b.config().SerializeAsString();
  };
  for (std::size_t off = 0; off < trials.size(); ++off) {
    if (!results.rows[off].aux_off) continue;
    for (std::size_t on = 0; on < trials.size(); ++on) {
      if (on != off && !results.rows[on].aux_off && HasAuxK(results.rows[on].architecture) &&
          same_but_aux(trials[on], trials[off])) {
        results.aux.push_back({on, off});
      }
    }
  }
}

std::string RangeText(const std::vector<FrontPoint>& front) {
  if (front.empty()) return "has no finished trial";
  if (front.size() == 1) return absl::StrCat("is at L0 ", Number(front[0].l0, 3));
  return absl::StrCat("spans L0 ", Number(front.front().l0, 3), " to ", Number(front.back().l0, 3));
}

std::string PairText(const SeriesPair& pair) {
  std::string out =
      absl::StrCat("\n", pair.a, " and ", pair.b,
                   " at equal L0: held-out FVU, interpolated along each front in log L0\n");
  if (pair.comparison.at.empty()) {
    return absl::StrCat(out, "not comparable: ", pair.a, " ", RangeText(pair.front_a), ", ", pair.b,
                        " ", RangeText(pair.front_b), "\n");
  }
  using A = Table::Align;
  Table table({{"L0", A::kRight}, {pair.a, A::kRight}, {pair.b, A::kRight}, {"LOWER"}});
  std::size_t wins = 0;
  for (const Comparison::At& at : pair.comparison.at) {
    wins += at.a < at.b ? 1 : 0;
    table.Add({Number(at.l0, 3), Number(at.a), Number(at.b),
               at.a < at.b   ? pair.a
               : at.b < at.a ? pair.b
                             : "equal"});
  }
  absl::StrAppend(&out, table.Text(), pair.a, " has the lower FVU at ", wins, " of ",
                  pair.comparison.at.size(), " points\n");
  return out;
}

/// Levels of L0 at which many series are compared: those of a series that sets its L0 itself, else
/// of the one with the most points.
std::vector<double> Levels(const Results& results, const std::vector<std::string>& series) {
  constexpr std::size_t kMostLevels = 8;
  std::vector<FrontPoint> chosen;
  for (const char* exact : {"topk", "batchtopk", "matryoshka"}) {
    if (chosen.empty()) chosen = FrontOf(results, exact);
  }
  if (chosen.empty()) {
    for (const std::string& name : series) {
      std::vector<FrontPoint> front = FrontOf(results, name);
      if (front.size() > chosen.size()) chosen = std::move(front);
    }
  }
  std::vector<double> out;
  for (const FrontPoint& p : chosen) out.push_back(p.l0);
  if (out.size() > kMostLevels) out.resize(kMostLevels);
  return out;
}

std::string EqualL0Text(const Results& results, const std::vector<std::string>& series) {
  const std::vector<double> levels = Levels(results, series);
  if (levels.empty()) return "\nnot comparable: no trial has held-out metrics yet\n";
  std::vector<Table::Column> columns = {{"AT EQUAL L0"}};
  for (const double l0 : levels)
    columns.push_back({absl::StrCat("L0 ", Number(l0, 3)), Table::Align::kRight});
  std::vector<std::vector<std::optional<double>>> values;  // by series, by level
  // Of autoencoders, and of transcoders.
  std::array<std::vector<double>, 2> lowest;
  lowest.fill(std::vector<double>(levels.size(), std::numeric_limits<double>::infinity()));
  for (const std::string& name : series) {
    const std::vector<FrontPoint> front = FrontOf(results, name);
    values.emplace_back();
    for (std::size_t i = 0; i < levels.size(); ++i) {
      values.back().push_back(FvuNear(front, levels[i], kBeyondEnds));
      double& least = lowest[IsTranscoder(results, name) ? 1 : 0][i];
      least = std::min(least, values.back().back().value_or(least));
    }
  }
  Table table(columns);
  for (std::size_t s = 0; s < series.size(); ++s) {
    const std::vector<double>& least = lowest[IsTranscoder(results, series[s]) ? 1 : 0];
    std::vector<std::string> cells = {series[s]};
    for (std::size_t i = 0; i < levels.size(); ++i) {
      const std::optional<double>& v = values[s][i];
      cells.push_back(!v ? "-" : absl::StrCat(*v <= least[i] ? "* " : "", Number(*v)));
    }
    table.Add(std::move(cells));
  }
  return absl::StrCat(
      "\nheld-out FVU along each front, linear in log L0, up to 10% beyond its ends; ",
      "* = lowest\n", table.Text());
}

}  // namespace

std::vector<FrontPoint> FrontOf(const Results& results, const std::string& series) {
  std::vector<FrontPoint> points, front;
  for (const ResultRow& r : results.rows) {
    if (r.series == series) points.push_back({r.l0, r.fvu});
  }
  for (const std::size_t i : ParetoFront(points)) front.push_back(points[i]);
  return front;
}

std::vector<std::string> SeriesOf(const Results& results) {
  const auto& names = config::Architectures();
  // Architectures in reverse order of their list; of one, the plain series before its variants.
  std::set<std::tuple<std::ptrdiff_t, std::size_t, std::string>> sorted;
  for (const ResultRow& r : results.rows) {
    const auto at = std::find(names.begin(), names.end(), r.architecture);
    sorted.emplace(names.end() - at, r.series == r.architecture ? 0 : 1, r.series);
  }
  std::vector<std::string> out;
  for (const auto& [architecture, variant, series] : sorted) out.push_back(series);
  return out;
}

Results CollectResults(const saeloom::v1::Sweep& sweep, const std::vector<Trial>& trials) {
  Results out;
  out.sweep = BareName(sweep.name());
  saeloom::v1::Objective objective = sweep.spec().objective();
  if (objective.metric().empty()) objective.set_metric("heldout.fvu");
  out.objective = ObjectiveText(objective);
  for (const Trial& t : trials) out.rows.push_back(Row(t, objective));
  MarkFronts(out);
  const bool maximize = objective.goal() == saeloom::v1::Objective::GOAL_MAXIMIZE;
  for (std::size_t i = 0; i < out.rows.size(); ++i) {
    if (!out.rows[i].feasible) continue;
    const double mine = out.rows[i].objective;
    const double best = out.best < 0 ? 0 : out.rows[static_cast<std::size_t>(out.best)].objective;
    if (out.best < 0 || (maximize ? mine > best : mine < best)) out.best = static_cast<int>(i);
  }
  const std::vector<std::string> series = SeriesOf(out);
  for (std::size_t i = 0; i < series.size(); ++i) {
    for (std::size_t j = i + 1; j < series.size(); ++j) {
      SeriesPair pair{series[i], series[j], FrontOf(out, series[i]), FrontOf(out, series[j]), {}};
      pair.comparison = Compare(pair.front_a, pair.front_b);
      out.pairs.push_back(std::move(pair));
    }
  }
  FindAuxPairs(trials, out);
  return out;
}

std::string ResultsText(const Results& results) {
  using A = Table::Align;
  std::string out = absl::StrCat(
      results.sweep, ": metrics on held-out rows. * = on the Pareto front of FVU against L0.\n",
      "DEAD = latents that fired on no held-out row and in none of the last max(5e5, 25%) training "
      "tokens.\n\n");
  Table table({{""},
               {"TRIAL"},
               {"PARAMETERS"},
               {"FVU", A::kRight},
               {"EXPL.VAR", A::kRight},
               {"L0", A::kRight},
               {"DEAD", A::kRight},
               {"GAMMA", A::kRight},
               {"TOKENS/S", A::kRight},
               {"STATE"}});
  std::vector<const ResultRow*> order;
  for (const ResultRow& r : results.rows) order.push_back(&r);
  const std::vector<std::string> series = SeriesOf(results);
  std::stable_sort(order.begin(), order.end(), [&](const ResultRow* a, const ResultRow* b) {
    const auto key = [&](const ResultRow* r) {
      return std::pair(std::find(series.begin(), series.end(), r->series) - series.begin(),
                       std::isfinite(r->l0) ? r->l0 : 1e300);
    };
    return key(a) < key(b);
  });
  for (const ResultRow* r : order) {
    table.Add({r->on_front ? "*" : "", r->trial, r->parameters, Number(r->fvu),
               Number(r->explained_variance), Number(r->l0), Percent(r->dead_fraction),
               Number(r->gamma), Count(r->tokens_per_second), r->state});
  }
  out += table.Text();
  if (series.size() > 2) {
    out += EqualL0Text(results, series);
  } else {
    for (const SeriesPair& pair : results.pairs) out += PairText(pair);
  }
  if (!results.aux.empty()) out += "\n";
  for (const AuxPair& pair : results.aux) {
    const ResultRow& with = results.rows[pair.with];
    const ResultRow& without = results.rows[pair.without];
    absl::StrAppend(&out, "AuxK (", with.parameters, "): dead ", Percent(with.dead_fraction),
                    " with it, ", Percent(without.dead_fraction), " without; FVU ",
                    Number(with.fvu), " with it, ", Number(without.fvu), " without\n");
  }
  absl::StrAppend(&out, "\nbest (", results.objective, "): ");
  if (results.best < 0) return out + "no trial that has ended well meets it\n";
  const ResultRow& best = results.rows[static_cast<std::size_t>(results.best)];
  return absl::StrCat(out, best.trial, "  ", best.parameters, "  ", Number(best.objective), "\n");
}

}  // namespace sae::cli
