#include <cmath>
#include <nlohmann/json.hpp>

#include "client/cli/results.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;

json Finite(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

json RowJson(const ResultRow& r) {
  return {{"trial", r.trial},
          {"parameters", r.parameters},
          {"architecture", r.architecture},
          {"series", r.series},
          {"state", r.state},
          {"fvu", Finite(r.fvu)},
          {"explained_variance", Finite(r.explained_variance)},
          {"l0", Finite(r.l0)},
          {"dead_fraction", Finite(r.dead_fraction)},
          {"gamma", Finite(r.gamma)},
          {"tokens_per_second", Finite(r.tokens_per_second)},
          {"objective", Finite(r.objective)},
          {"feasible", r.feasible},
          {"on_front", r.on_front}};
}

}  // namespace

std::string ResultsJson(const Results& results) {
  json out = {{"sweep", results.sweep}, {"objective", results.objective}};
  out["best"] = results.best < 0 ? json(nullptr)
                                 : json(results.rows[static_cast<std::size_t>(results.best)].trial);
  out["trials"] = json::array();
  for (const ResultRow& r : results.rows) out["trials"].push_back(RowJson(r));
  out["comparisons"] = json::array();
  for (const SeriesPair& pair : results.pairs) {
    json at = json::array();
    for (const Comparison::At& p : pair.comparison.at)
      at.push_back({{"l0", p.l0}, {pair.a, p.a}, {pair.b, p.b}});
    out["comparisons"].push_back(
        {{"a", pair.a}, {"b", pair.b}, {"comparable", !at.empty()}, {"at", at}});
  }
  out["aux_k"] = json::array();
  for (const AuxPair& p : results.aux) {
    out["aux_k"].push_back(
        {{"with", results.rows[p.with].trial}, {"without", results.rows[p.without].trial}});
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace sae::cli
