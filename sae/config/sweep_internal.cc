#include "sae/config/sweep_internal.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"

#include "sae/base/ids.h"

namespace sae::config::internal {
namespace {

constexpr std::size_t kMaxProblems = 20;
constexpr std::size_t kBrief = 100;

std::string Dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

absl::Status Problems::ToStatus() const {
  if (empty()) return absl::OkStatus();
  std::vector<std::string> all = texts_;
  all.insert(all.end(), unimplemented_.begin(), unimplemented_.end());
  const std::size_t more = all.size() > kMaxProblems ? all.size() - kMaxProblems : 0;
  if (more > 0) all.resize(kMaxProblems);
  std::string text = absl::StrJoin(all, "; ");
  if (more > 0) absl::StrAppend(&text, "; and ", more, " more");
  return texts_.empty() ? absl::UnimplementedError(text) : absl::InvalidArgumentError(text);
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& known) {
  // The distance takes time in both lengths.
  const std::string nearest = word.size() > kBrief ? "" : Nearest(word, known);
  return nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?");
}

std::string Brief(const std::string& text) {
  if (text.size() <= kBrief) return text;
  std::size_t cut = kBrief;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;  // whole letters
  return text.substr(0, cut) + "...";
}

std::string Brief(const json& j) { return Brief(Dump(j)); }

bool IsCleanText(const std::string& text) {
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7F;
  });
  return !control && json(text).dump(-1, ' ', false, json::error_handler_t::ignore) ==
                         json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string CanonicalScalar(const json& j) {
  if (j.is_number_float()) {
    const double x = j.get<double>();
    if (x == std::nearbyint(x) && std::abs(x) < 9007199254740992.0)
      return Dump(static_cast<std::int64_t>(x));
  }
  return Dump(j);
}

std::string NumberText(double x) { return CanonicalScalar(json(x)); }

const std::vector<std::string>& TrialPaths() {
  static const std::vector<std::string> paths = [] {
    TrialConfig config;
    std::vector<std::string> out;
    for (const Field& f : Fields(config)) out.push_back(f.path);
    return out;
  }();
  return paths;
}

const std::map<std::string, std::vector<std::string>>& KnownKeys() {
  static const std::vector<std::string> rungs = {"mode",     "maxTime",  "minTime",   "eta",
                                                 "maxRungs", "brackets", "maxTrials", "seed"};
  static const std::map<std::string, std::vector<std::string>> keys = {
      {"",
       {"apiVersion", "name", "labels", "queue", "priority", "topology", "store", "harvest",
        "trial", "parameters", "objective", "search", "maxConcurrent", "pack", "retry",
        "checkpoints", "gracePeriod", "progressTimeout"}},
      {"store", {"path", "hash", "d", "target_d"}},
      {"trial", {"ranks", "sae", "train"}},
      {"parameters.*", {"values", "uniform", "logUniform", "intUniform", "when"}},
      {"parameters.*.uniform", {"min", "max", "step"}},
      {"objective", {"metric", "goal", "constraints"}},
      {"search", {"grid", "random", "asha", "hyperband", "medianStop"}},
      {"search.grid", {}},
      {"search.random", {"maxTrials", "seed"}},
      {"search.asha", rungs},
      {"search.hyperband", rungs},
      {"search.medianStop", {"graceTokens", "minTrials"}},
      {"retry[]", {"on", "limit", "excludeNode"}},
      {"checkpoints", {"keepLatest", "keepBest", "keepSweepBest"}},
  };
  return keys;
}

bool CheckKeys(const json& j, const std::string& where, const std::string& place,
               Problems& problems) {
  const std::vector<std::string>& known = KnownKeys().at(place);
  if (!j.is_object()) {
    problems.Add(where, ": ", Brief(j), " is not a map of keys (", absl::StrJoin(known, ", "), ")");
    return false;
  }
  for (const auto& [key, value] : j.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    problems.Add("unknown key ", where.empty() ? "" : where + ".", Brief(key),
                 DidYouMean(key, known));
  }
  return true;
}

void ReadString(const json& parent, const char* key, const std::string& where, std::string& out,
                Problems& problems) {
  if (!parent.contains(key)) return;
  if (!parent[key].is_string())
    return problems.Add(where, ": ", Brief(parent[key]), " is not a string");
  out = parent[key].get<std::string>();
  if (out.size() > kMaxText)
    problems.Add(where, ": ", out.size(), " bytes, a text may have ", kMaxText);
}

void ReadNumber(const json& parent, const char* key, const std::string& where, double& out,
                Problems& problems) {
  if (!parent.contains(key)) return;
  const json& v = parent[key];
  if (!v.is_number()) return problems.Add(where, ": ", Brief(v), " is not a number");
  out = v.get<double>();
}

void ReadInteger(const json& parent, const char* key, const std::string& where, std::int64_t& out,
                 Problems& problems) {
  if (!parent.contains(key)) return;
  const json& v = parent[key];
  if (v.is_number_unsigned() && v.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) {
    problems.Add(where, ": ", Brief(v), " is too large");
  } else if (v.is_number_integer()) {
    out = v.get<std::int64_t>();
  } else if (v.is_number_float() && std::nearbyint(v.get<double>()) == v.get<double>() &&
             std::abs(v.get<double>()) < 9.0e18) {
    out = static_cast<std::int64_t>(v.get<double>());
  } else {
    problems.Add(where, ": ", Brief(v), " is not a whole number");
  }
}

}  // namespace sae::config::internal
