#include "sae/data/synthetic_options.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"

namespace sae::data {
namespace {

struct Key {
  std::string name;
  std::variant<double*, std::optional<double>*, std::int64_t*, std::uint64_t*, bool*> value;
};

/// In the order in which they are written; the first kElementary always are.
constexpr std::size_t kElementary = 10;
std::vector<Key> Keys(SyntheticSpec& spec) {
  SyntheticOptions& o = spec.options;
  return {{"d", &o.d},
          {"features", &o.features},
          {"rows", &spec.rows},
          {"seed", &o.seed},
          {"p_max", &o.p_max},
          {"p_min", &o.p_min},
          {"zipf", &o.zipf},
          {"mu", &o.mu},
          {"sigma", &o.sigma},
          {"bias_norm", &o.bias_norm},
          {"mu_end", &o.mu_end},
          {"sigma_spread", &o.sigma_spread},
          {"low", &o.low},
          {"high", &o.high},
          {"axes", &o.axes},
          {"orthogonalise_steps", &o.orthogonalise_steps},
          {"orthogonalise_lr", &o.orthogonalise_lr},
          {"correlation_rank", &o.correlation_rank},
          {"correlation_scale", &o.correlation_scale},
          {"roots", &o.roots},
          {"branching", &o.branching},
          {"depth", &o.depth},
          {"exclusive", &o.exclusive},
          {"compensate", &o.compensate},
          {"scale_by_parent", &o.scale_by_parent}};
}

bool Read(const std::string& text, double* out) { return absl::SimpleAtod(text, out); }
bool Read(const std::string& text, std::optional<double>* out) {
  return absl::SimpleAtod(text, &out->emplace());
}
bool Read(const std::string& text, bool* out) { return absl::SimpleAtob(text, out); }
template <class Integer>
bool Read(const std::string& text, Integer* out) {
  return absl::SimpleAtoi(text, out);
}

std::string Write(const Key& key) {
  return std::visit(
      [](const auto* v) -> std::string {
        using T = std::decay_t<decltype(*v)>;
        if constexpr (std::is_same_v<T, std::optional<double>>) {
          return v->has_value() ? absl::StrCat(**v) : "";
        } else if constexpr (std::is_same_v<T, bool>) {
          return *v ? "1" : "0";
        } else {
          return absl::StrCat(*v);
        }
      },
      key.value);
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& words) {
  const std::string near = Nearest(word, words);
  return near.empty() ? absl::StrCat(": one of ", absl::StrJoin(words, ", "))
                      : absl::StrCat(", did you mean '", near, "'?");
}

SyntheticOptions Toy(std::int64_t d, std::int64_t features, double p) {
  SyntheticOptions o;
  o.d = d;
  o.features = features;
  o.p_max = o.p_min = p;
  o.low = 0.5;
  o.high = 1.5;
  o.bias_norm = 0;
  return o;
}

SyntheticOptions AbsorptionToy() {
  SyntheticOptions o;
  o.d = o.features = 4;
  o.axes = true;
  o.probabilities = {0.25, 0.2, 0.05, 0.05};
  o.parents = {-1, 0, -1, -1};
  o.mu = 1;
  o.sigma = 0;
  o.bias_norm = 0;
  return o;
}

SyntheticOptions SynthSaeBench() {
  SyntheticOptions o;
  o.d = 768;
  o.features = 16384;
  o.seed = 42;
  o.orthogonalise_steps = 100;
  o.orthogonalise_lr = 3e-4;
  o.p_max = 0.4;
  o.p_min = 5e-4;
  o.zipf = 0.5;
  o.correlation_rank = 25;
  o.correlation_scale = 0.1;
  o.roots = 128;
  o.branching = 4;
  o.depth = 3;
  o.exclusive = o.compensate = o.scale_by_parent = true;
  o.mu = 5;
  o.mu_end = 4;
  o.sigma = o.sigma_spread = 0.5;
  o.bias_norm = 0.5;
  return o;
}

}  // namespace

absl::Status Validate(const SyntheticOptions& o) {
  std::vector<std::string> problems;
  const auto need = [&](bool good, const auto&... parts) {
    if (!good) problems.push_back(absl::StrCat(parts...));
  };
  const auto probability = [](double p) { return p >= 0 && p <= 1; };
  const auto finite = [](double x) { return std::isfinite(x); };
  need(o.d >= 1, "d=", o.d, " needs 1 or more");
  need(o.features >= 1, "features=", o.features, " needs 1 or more");
  need(probability(o.p_min) && probability(o.p_max) && o.p_min <= o.p_max, "p_min=", o.p_min,
       ", p_max=", o.p_max, " need 0 <= p_min <= p_max <= 1");
  need(o.zipf >= 0 && finite(o.zipf), "zipf=", o.zipf, " needs 0 or more");
  need(finite(o.mu) && finite(o.mu_end.value_or(0)), "mu and mu_end need finite values");
  need(o.sigma >= 0 && o.sigma_spread >= 0 && finite(o.sigma) && finite(o.sigma_spread),
       "sigma=", o.sigma, ", sigma_spread=", o.sigma_spread, " need 0 or more");
  need(o.high == 0 || (o.low >= 0 && o.low <= o.high && finite(o.high)), "low=", o.low,
       ", high=", o.high, " need 0 <= low <= high");
  need(o.bias_norm >= 0 && finite(o.bias_norm), "bias_norm=", o.bias_norm, " needs 0 or more");
  need(o.orthogonalise_steps >= 0 && o.orthogonalise_lr > 0,
       "orthogonalise_steps needs 0 or more, orthogonalise_lr a positive number");
  need(o.correlation_rank >= 0 && o.correlation_scale >= 0,
       "correlation_rank and correlation_scale need 0 or more");
  need(o.roots >= 0 && o.depth >= 0 && (o.roots == 0 || o.branching >= 1), "roots=", o.roots,
       ", branching=", o.branching, ", depth=", o.depth, " need 0 or more, branching 1 or more");
  need(!o.axes || o.features <= o.d, "axes=1 needs features=", o.features, " of at most d=", o.d);
  need(o.roots <= o.features, "roots=", o.roots, " is more than features=", o.features);
  const auto n = static_cast<std::size_t>(std::max<std::int64_t>(o.features, 0));
  need(o.probabilities.empty() || o.probabilities.size() == n, "features=", o.features, " but ",
       o.probabilities.size(), " probabilities are given");
  need(std::all_of(o.probabilities.begin(), o.probabilities.end(), probability),
       "probabilities need to be in [0, 1]");
  bool forest = o.parents.empty() || o.parents.size() == n;
  for (std::size_t i = 0; i < o.parents.size(); ++i) {
    forest = forest && o.parents[i] >= -1 && o.parents[i] < static_cast<std::int64_t>(i);
  }
  need(forest, "parents need one entry a feature, each -1 or a lower index");
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("synthetic data: ", absl::StrJoin(problems, "; ")));
}

absl::StatusOr<SyntheticOptions> SyntheticPreset(const std::string& name) {
  const std::vector<std::pair<std::string, SyntheticOptions>> presets = {
      {"elementary", {}},
      {"toy_a", Toy(32, 32, 0.1)},
      {"toy_b", Toy(32, 64, 0.05)},
      {"absorption", AbsorptionToy()},
      {"synthsaebench_16k", SynthSaeBench()}};
  std::vector<std::string> names;
  for (const auto& [known, options] : presets) {
    if (known == name) {
      SyntheticOptions out = options;
      out.preset = name;
      return out;
    }
    names.push_back(known);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("synthetic data: unknown preset '", name, "'", DidYouMean(name, names)));
}

absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(const std::string& text) {
  SyntheticSpec spec;
  const std::vector<Key> keys = Keys(spec);
  const std::vector<std::string> parts =
      absl::StrSplit(ToAbsl(text), absl::ByChar(','), absl::SkipEmpty());
  for (std::size_t at = 0; at < parts.size(); ++at) {
    const std::string& part = parts[at];
    const auto equals = part.find('=');
    const std::string name = part.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.name == name; });
    bool good = true;
    if (name == "preset") {
      if (at > 0)
        return absl::InvalidArgumentError("synthetic data: preset=NAME has to be the first key");
      SAE_ASSIGN_OR_RETURN(spec.options, SyntheticPreset(value));
    } else if (name == "p") {
      good = Read(value, &spec.options.p_max);
      spec.options.p_min = spec.options.p_max;
    } else if (key == keys.end()) {
      std::vector<std::string> names = {"preset", "p"};
      for (const Key& k : keys) names.push_back(k.name);
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic data: unknown key '", name, "'", DidYouMean(name, names)));
    } else {
      good = std::visit([&](auto* v) { return Read(value, v); }, key->value);
    }
    if (!good) {
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic data: '", part, "' is not KEY=NUMBER"));
    }
  }
  if (spec.rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("synthetic data: rows=", spec.rows, " must be at least 1"));
  }
  SAE_RETURN_IF_ERROR(Validate(spec.options));
  return spec;
}

std::string ToText(const SyntheticSpec& spec) {
  SyntheticSpec own = spec, base;
  std::string out;
  if (auto preset = SyntheticPreset(spec.options.preset); preset.ok()) {
    base.options = *std::move(preset);
    out = absl::StrCat("preset=", spec.options.preset);
  }
  const std::vector<Key> keys = Keys(own), defaults = Keys(base);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string value = Write(keys[i]);
    if (i >= kElementary && value == Write(defaults[i])) continue;
    absl::StrAppend(&out, out.empty() ? "" : ",", keys[i].name, "=", value);
  }
  return out;
}

}  // namespace sae::data
