#include "sae/config/run_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <type_traits>

#include "sae/base/ids.h"

namespace sae::config {
namespace {
using nlohmann::json;

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

/// f(name, member, help) for each field; a path is "sae." or "train." before the name.
template <class F>
void VisitSae(SaeConfig& c, const F& f) {
  f("architecture", c.architecture, "relu_l1 | topk | batchtopk | matryoshka | gated | jumprelu");
  f("latents", c.latents, "dictionary size n");
  f("k", c.k, "topk, batchtopk, matryoshka: active latents a token");
  f("aux_k", c.aux_k, "topk family: k of AuxK over dead latents; auto, 0 = off");
  f("aux_alpha", c.aux_alpha, "topk family: weight of AuxK");
  f("multi_topk", c.multi_topk, "topk: add 1/8 of the loss of the 4k largest");
  f("l1_coefficient", c.l1_coefficient, "relu_l1, gated: lambda; with target_l0 its start, 0 = calibrated");
  f("l0_coefficient", c.l0_coefficient, "jumprelu: lambda; with target_l0 its start, 0 = calibrated");
  f("target_l0", c.target_l0, "relu_l1, gated, jumprelu: control lambda towards this L0; 0 = none");
  f("penalty", c.penalty, "relu_l1: l1 | l1_norm | lp; jumprelu: l0 | l0_quadratic | tanh; auto");
  f("p_end", c.p_end, "lp: exponent at the end");
  f("tanh_scale", c.tanh_scale, "tanh: c");
  f("pre_act_coefficient", c.pre_act_coefficient, "tanh: weight of ReLU(threshold - z)");
  f("frequency_coefficient", c.frequency_coefficient, "jumprelu: weight of firing on over 10% of tokens");
  f("bandwidth", c.bandwidth, "jumprelu: width of the window around a threshold; auto");
  f("threshold_init", c.threshold_init, "jumprelu: thresholds at the start; auto = quantiles of z");
  f("threshold_parameter", c.threshold_parameter, "jumprelu: log | raw");
  f("threshold_lr", c.threshold_lr, "jumprelu: learning rate of thresholds; auto");
  f("prefixes", c.prefixes, "matryoshka: rising widths, as 128,512,2048; auto");
  f("prefix_weights", c.prefix_weights, "matryoshka: mean | sum | mean_with_bias");
  f("pre_bias", c.pre_bias, "on | off: subtract b_dec before encoding; auto");
  f("decoder", c.decoder, "unit | unit_before | free | on_the_fly; auto");
  f("input_scale", c.input_scale, "rms | mean_norm | layer_norm | none");
  f("loss", c.loss, "sum | mean | openai | fvu: reduction of squared errors; auto = sum");
  f("resample", c.resample, "relu_l1, gated: on | off: give dead latents new directions");
  f("resample_exponent", c.resample_exponent, "rows are drawn in proportion to |error|^this");
  f("dead_after_tokens", c.dead_after_tokens, "a latent that long silent is dead; auto");
  f("transcoder", c.transcoder, "predict the store's targets");
  f("skip", c.skip, "transcoder with a linear skip");
}

template <class F>
void VisitTrain(TrainConfig& c, const F& f) {
  f("preset", c.preset, "none | openai: what auto means for decoder, loss and epsilon");
  f("tokens", c.tokens, "length of the run");
  f("batch", c.batch, "global batch in tokens");
  f("lr", c.lr, "learning rate; auto = 2e-4 / sqrt(n / 16384)");
  f("beta1", c.beta1, "Adam; auto = 0.9, 0 for gated and jumprelu");
  f("beta2", c.beta2, "Adam");
  f("epsilon", c.epsilon, "Adam; auto = 1e-8");
  f("lr_warmup", c.lr_warmup, "linear (0 to 1) | cosine (0.1 to 1)");
  f("lr_warmup_steps", c.lr_warmup_steps, "length of the warm-up; auto");
  f("lr_decay_fraction", c.lr_decay_fraction, "linear decay to 0 over this last share");
  f("sparsity_warmup_steps", c.sparsity_warmup_steps, "lambda rises from 0; auto");
  f("clip", c.clip, "largest norm of the whole gradient; 0 = off");
  f("ema", c.ema, "mu of a mean of parameters, evaluated and exported; 0 = off");
  f("rows", c.rows, "dense | lazy | deferred: which rows a step updates");
  f("selection", c.selection, "float32 | certified (bf16 screen, exact by a margin) | bf16 (GPUs)");
  f("seed", c.seed, "initialisation");
  f("data_seed", c.data_seed, "order of data; one for a sweep");
  f("eval_every_tokens", c.eval_every_tokens, "held-out evaluation; auto = tokens / 10");
  f("checkpoint_every_seconds", c.checkpoint_every_seconds, "and at the end; 0 = at the end only");
  f("log_every_steps", c.log_every_steps, "metrics event every so many steps");
  f("moments", c.moments, "f32 | bf16 | int8: how Adam's moments of both matrices are kept");
  f("reduction", c.reduction, "fast | fixed (same bits for every number of ranks that divides 16)");
  f("replicas", c.replicas, "parts of a batch, each at its own ranks; auto = near sqrt(0.75 B P / n)");
  f("decoder_layout", c.decoder_layout, "latents | columns: how ranks share the decoder");
}

void AddTrial(std::vector<Field>& out, const std::string& p, TrialConfig& c) {
  const auto add = [&out](const std::string& prefix) {
    return [&out, prefix](const char* name, auto& member, const char* help) {
      out.push_back({prefix + name, &member, help});
    };
  };
  add(p)("ranks", c.ranks, "replicas x latent shards");
  VisitSae(c.sae, add(p + "sae."));
  VisitTrain(c.train, add(p + "train."));
}

/// Where the field of that path lives, found without a list of all: a sweep sets a million of them.
std::optional<FieldPointer> Find(TrialConfig& c, std::string_view path) {
  if (path == "ranks") return &c.ranks;
  std::optional<FieldPointer> out;
  const std::size_t dot = std::min(path.find('.'), path.size());
  const std::string_view group = path.substr(0, dot);
  const std::string_view wanted = path.substr(std::min(dot + 1, path.size()));
  const auto match = [&](const char* name, auto& member, const char*) {
    if (wanted == name) out = &member;
  };
  if (group == "sae") VisitSae(c.sae, match);
  if (group == "train") VisitTrain(c.train, match);
  return out;
}

// Integers come as 5, 5e5 or "5"; JSON numbers that are not integral are refused.
std::optional<std::int64_t> AsInteger(const json& v) {
  if (v.is_number_integer()) return v.get<std::int64_t>();
  if (v.is_number_float()) {
    const double x = v.get<double>();
    if (std::nearbyint(x) == x && std::abs(x) < 9.0e18) return static_cast<std::int64_t>(x);
  }
  if (v.is_string()) {
    const json inner = json::parse(v.get<std::string>(), nullptr, false);
    if (inner.is_number()) return AsInteger(inner);
  }
  return std::nullopt;
}

std::optional<double> AsNumber(const json& v) {
  if (v.is_number()) return v.get<double>();
  if (v.is_string()) {
    const json inner = json::parse(v.get<std::string>(), nullptr, false);
    if (inner.is_number()) return inner.get<double>();
  }
  return std::nullopt;
}

bool IsAuto(const json& v) { return v.is_null() || (v.is_string() && v.get<std::string>() == "auto"); }

// Returns "" or what type was wanted.
std::string Assign(const FieldPointer& pointer, const json& v) {
  return std::visit(
      [&](auto* target) -> std::string {
        using T = std::remove_pointer_t<decltype(target)>;
        if constexpr (IsOptional<T>::value) {
          if (IsAuto(v)) {
            target->reset();
            return "";
          }
          if constexpr (std::is_same_v<typename T::value_type, double>) {
            if (auto x = AsNumber(v)) return *target = x, "";
            return "a number or auto";
          } else {
            if (auto x = AsInteger(v)) return *target = x, "";
            return "a whole number or auto";
          }
        } else if constexpr (std::is_same_v<T, bool>) {
          if (!v.is_boolean()) return "true or false";
          *target = v.get<bool>();
        } else if constexpr (std::is_same_v<T, std::string>) {
          if (!v.is_string()) return "a string";
          *target = v.get<std::string>();
        } else if constexpr (std::is_same_v<T, double>) {
          const auto x = AsNumber(v);
          if (!x) return "a number";
          *target = *x;
        } else {
          const auto x = AsInteger(v);
          if (!x) return "a whole number";
          *target = *x;
        }
        return "";
      },
      pointer);
}

json ToJsonValue(const FieldPointer& pointer) {
  return std::visit(
      [](auto* source) -> json {
        using T = std::remove_pointer_t<decltype(source)>;
        if constexpr (IsOptional<T>::value) {
          return source->has_value() ? json(**source) : json("auto");
        } else {
          return json(*source);
        }
      },
      pointer);
}

void CollectKeys(const json& j, const std::string& prefix, std::vector<std::pair<std::string, json>>& out) {
  for (const auto& [key, value] : j.items()) {
    const std::string path = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object()) {
      CollectKeys(value, path, out);
    } else {
      out.emplace_back(path, value);
    }
  }
}

absl::Status Problems(const std::vector<std::string>& problems) {
  if (problems.empty()) return absl::OkStatus();
  std::string text;
  for (const std::string& p : problems) absl::StrAppend(&text, text.empty() ? "" : "; ", p);
  return absl::InvalidArgumentError(text);
}

std::string UnknownKey(const std::string& path, const std::vector<Field>& fields) {
  std::vector<std::string> paths;
  for (const Field& f : fields) paths.push_back(f.path);
  const std::string nearest = Nearest(path, paths);
  return absl::StrCat("unknown key ", path, nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?"));
}

absl::Status SetAll(const std::vector<Field>& fields, const json& root) {
  std::vector<std::pair<std::string, json>> keys;
  CollectKeys(root, "", keys);
  std::vector<std::string> problems;
  for (const auto& [path, value] : keys) {
    const auto it = std::find_if(fields.begin(), fields.end(), [&, &path = path](const Field& f) { return f.path == path; });
    if (it == fields.end()) {
      problems.push_back(UnknownKey(path, fields));
    } else if (const std::string wanted = Assign(it->pointer, value); !wanted.empty()) {
      problems.push_back(absl::StrCat(path, ": ", value.dump(), " is not ", wanted));
    }
  }
  return Problems(problems);
}

json Tree(const std::vector<Field>& fields) {
  json root = json::object();
  for (const Field& f : fields) {
    json* at = &root;
    std::size_t begin = 0;
    for (std::size_t dot; (dot = f.path.find('.', begin)) != std::string::npos; begin = dot + 1) {
      at = &(*at)[f.path.substr(begin, dot - begin)];
    }
    (*at)[f.path.substr(begin)] = ToJsonValue(f.pointer);
  }
  return root;
}

absl::StatusOr<json> ParseObject(const std::string& text) {
  try {
    json j = json::parse(text);
    if (j.is_object()) return j;
    return absl::InvalidArgumentError("the config is not a JSON object");
  } catch (const json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("the config is not JSON: ", e.what()));
  }
}

}  // namespace

const std::vector<std::string>& Architectures() {
  static const std::vector<std::string> names = {"relu_l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu"};
  return names;
}

const std::vector<std::string>& Metrics() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const char* scope : {"train", "heldout"}) {
      for (const char* m : {"loss", "fvu", "explained_variance", "l0", "dead_fraction", "gamma", "cosine"}) {
        out.push_back(absl::StrCat(scope, ".", m));
      }
    }
    for (const char* m : {"data", "step", "encode", "product", "select", "exchange", "decode", "aux",
                          "backward", "update"}) {
      out.push_back(absl::StrCat("ms.", m));
    }
    for (const char* m : {"selection", "decode", "auxk", "sums", "rows", "total"})
      out.push_back(absl::StrCat("bytes.", m));
    out.insert(out.end(), {"non_gemm_share", "straggler.score", "straggler.rank", "tokens_per_second"});
    return out;
  }();
  return names;
}

std::vector<Field> Fields(TrialConfig& config) {
  std::vector<Field> out;
  AddTrial(out, "", config);
  return out;
}

std::vector<Field> Fields(RunConfig& config) {
  std::vector<Field> out = {{"store", &config.store, "folder of an activation store"}};
  AddTrial(out, "trial.", config.trial);
  PlacementConfig& r = config.run;
  out.insert(out.end(), {
      {"run.directory", &r.directory, "the attempt's folder"},
      {"run.checkpoints", &r.checkpoints, "the trial's checkpoints"},
      {"run.sweep", &r.sweep, "name of the sweep"},
      {"run.trial", &r.trial, "name of the trial"},
      {"run.attempt", &r.attempt, "number of the attempt"},
      {"run.device", &r.device, "cpu | cuda | cuda:N"},
      {"run.threads", &r.threads, "threads of each rank"},
      {"run.lease", &r.lease, "stop when the file `lease` has run out"},
      {"run.watchdog_seconds", &r.watchdog_seconds, "no progress this long ends the rank"},
      {"run.store_hash", &r.store_hash, "expected hash of the store's manifest"},
      {"run.keep_checkpoints", &r.keep_checkpoints, "the newest that stay; 0 = all"}});
  return out;
}

absl::Status SetField(TrialConfig& config, const std::string& path, const std::string& json_value) {
  const std::optional<FieldPointer> field = Find(config, path);
  if (!field) return absl::InvalidArgumentError(UnknownKey(path, Fields(config)));
  const json value = json::parse(json_value, nullptr, false);
  const std::string wanted = value.is_discarded() ? "JSON" : Assign(*field, value);
  if (wanted.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", json_value, " is not ", wanted));
}

absl::StatusOr<TrialConfig> ParseTrialConfig(const std::string& text) {
  SAE_ASSIGN_OR_RETURN(const json j, ParseObject(text));
  TrialConfig config;
  SAE_RETURN_IF_ERROR(SetAll(Fields(config), j));
  return config;
}

absl::StatusOr<RunConfig> ParseRunConfig(const std::string& text) {
  SAE_ASSIGN_OR_RETURN(const json j, ParseObject(text));
  RunConfig config;
  SAE_RETURN_IF_ERROR(SetAll(Fields(config), j));
  return config;
}

std::string ToJson(const TrialConfig& config) {
  TrialConfig copy = config;
  return Tree(Fields(copy)).dump(2);
}

std::string ToJson(const RunConfig& config) {
  RunConfig copy = config;
  return Tree(Fields(copy)).dump(2);
}

}  // namespace sae::config
