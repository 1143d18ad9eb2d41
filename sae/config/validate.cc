// Everything about a trial that is wrong before it starts: each problem with its path, its value
// and the remedy. A field that an architecture does not use is left alone (sweeps share one
// `trial`), unless it asks for what the architecture cannot do.

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"

#include "sae/base/ids.h"
#include "sae/config/mesh.h"
#include "sae/config/run_config.h"

namespace sae::config {
namespace {

using Words = std::vector<std::string>;

class Checker {
 public:
  Checker(const TrialConfig& given, std::int64_t d, std::int64_t target_d)
      : c_(given), resolved_(Resolve(given, d)), d_(d), target_d_(target_d) {}

  absl::Status Run() {
    CheckWords();
    CheckDictionary();
    CheckSparsity();
    CheckPenalty();
    CheckThresholds();
    CheckTranscoder();
    CheckLength();
    CheckOptimizer();
    CheckRows();
    CheckReduction();
    CheckMesh();
    CheckColumns();
    if (problems_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrJoin(problems_, "; "));
  }

 private:
  template <class... Parts>
  void Need(bool ok, const Parts&... parts) {
    if (!ok) problems_.push_back(absl::StrCat(parts...));
  }

  void Word(const char* path, const std::string& value, const Words& words) {
    if (std::find(words.begin(), words.end(), value) != words.end()) return;
    const std::string nearest = Nearest(value, words);
    const std::string remedy = nearest.empty() ? absl::StrCat(": use ", absl::StrJoin(words, ", "))
                                               : absl::StrCat(", did you mean ", nearest, "?");
    problems_.push_back(absl::StrCat(path, ": unknown '", value, "'", remedy));
  }

  /// A finite number above 0; `more` follows "needs a number above 0".
  void Positive(const char* path, double value, const char* more = "") {
    Need(value > 0 && std::isfinite(value), path, ": ", value, ": needs a number above 0", more);
  }
  void NotNegative(const char* path, double value) {
    Need(value >= 0 && std::isfinite(value), path, ": ", value,
         ": needs a finite number of 0 or more");
  }
  void Share(const char* path, double value) {
    Need(value >= 0 && value < 1, path, ": ", value, " is not in [0, 1)");
  }

  bool Is(const char* architecture) const { return c_.sae.architecture == architecture; }
  bool Ranked() const { return Is("topk") || Is("batchtopk") || Is("matryoshka"); }
  /// Its penalty's coefficient may be controlled.
  bool Penalised() const { return Is("relu_l1") || Is("gated") || Is("jumprelu"); }
  const std::string& Penalty() const { return resolved_.sae.penalty; }

  void CheckWords() {
    struct Sae {
      const char* path;
      std::string SaeConfig::*value;
      Words words;
    };
    struct Train {
      const char* path;
      std::string TrainConfig::*value;
      Words words;
    };
    static const std::vector<Sae> of_sae = {
        {"sae.architecture", &SaeConfig::architecture, Architectures()},
        {"sae.penalty",
         &SaeConfig::penalty,
         {"auto", "none", "l1", "l1_norm", "lp", "l0", "l0_quadratic", "tanh"}},
        {"sae.threshold_parameter", &SaeConfig::threshold_parameter, {"log", "raw"}},
        {"sae.prefix_weights", &SaeConfig::prefix_weights, {"mean", "sum", "mean_with_bias"}},
        {"sae.pre_bias", &SaeConfig::pre_bias, {"auto", "on", "off"}},
        {"sae.decoder", &SaeConfig::decoder, {"auto", "unit", "unit_before", "free", "on_the_fly"}},
        {"sae.input_scale", &SaeConfig::input_scale, {"rms", "mean_norm", "layer_norm", "none"}},
        {"sae.loss", &SaeConfig::loss, {"auto", "sum", "mean", "openai", "fvu"}},
        {"sae.resample", &SaeConfig::resample, {"off", "on"}}};
    static const std::vector<Train> of_train = {
        {"train.preset", &TrainConfig::preset, {"none", "openai"}},
        {"train.lr_warmup", &TrainConfig::lr_warmup, {"linear", "cosine"}},
        {"train.rows", &TrainConfig::rows, {"dense", "lazy", "deferred"}},
        {"train.selection", &TrainConfig::selection, {"float32", "certified", "bf16"}},
        {"train.reduction", &TrainConfig::reduction, {"fast", "fixed"}},
        {"train.moments", &TrainConfig::moments, {"f32", "bf16", "int8"}},
        {"train.decoder_layout", &TrainConfig::decoder_layout, {"latents", "columns"}}};
    for (const Sae& w : of_sae) Word(w.path, c_.sae.*w.value, w.words);
    for (const Train& w : of_train) Word(w.path, c_.train.*w.value, w.words);
  }

  void CheckDictionary() {
    const std::int64_t n = c_.sae.latents;
    Need(n > 0, "sae.latents: ", n, ": set the dictionary size, 1 or more");
    Need(n <= (std::int64_t{1} << 31), "sae.latents: ", n, " is more than 2^31");
    Need(c_.ranks >= 1, "ranks: ", c_.ranks, ": needs 1 or more");
    Need(c_.ranks <= kMostRanks, "ranks: ", c_.ranks, " is more than ", kMostRanks);
    Need(c_.ranks < 1 || n % c_.ranks == 0, "ranks: ", c_.ranks, " does not divide sae.latents ", n,
         ": choose ranks that divide it");
    Need(d_ >= 0, "width ", d_, " is negative");
    if (c_.sae.dead_after_tokens) {
      Need(*c_.sae.dead_after_tokens >= 1, "sae.dead_after_tokens: ", *c_.sae.dead_after_tokens,
           ": needs 1 or more, or auto");
    }
  }

  void CheckSparsity() {
    const SaeConfig& sae = c_.sae;
    Need(Is("topk") || !sae.multi_topk, "sae.multi_topk: true: only topk has it, not ",
         sae.architecture, ": leave it false");
    if (Ranked()) {
      CheckRanked();
    } else if (Penalised()) {
      NotNegative("sae.target_l0", sae.target_l0);
      Need(!(sae.target_l0 >= static_cast<double>(sae.latents)) || sae.latents < 1,
           "sae.target_l0: ", sae.target_l0, " is not below sae.latents ", sae.latents,
           ": choose a smaller target or a larger dictionary");
      NotNegative("sae.l1_coefficient", sae.l1_coefficient);
      NotNegative("sae.l0_coefficient", sae.l0_coefficient);
    }
    Need(sae.resample != "on" || Is("relu_l1") || Is("gated"),
         "sae.resample: on: only relu_l1 and gated ", "resample, not ", sae.architecture,
         ": leave it off", Ranked() ? " (AuxK, sae.aux_k, revives its dead latents)" : "");
    if (sae.resample == "on") NotNegative("sae.resample_exponent", sae.resample_exponent);
    if (Is("matryoshka")) {
      const auto prefixes = ParsePrefixes(sae.prefixes, sae.latents);
      Need(prefixes.ok() || sae.latents < 1, Message(prefixes.status()));
    }
  }

  void CheckRanked() {
    const SaeConfig& sae = c_.sae;
    Need(sae.target_l0 == 0, "sae.target_l0: ", sae.target_l0, ": ", sae.architecture,
         " sets its L0 itself: set sae.k, and leave sae.target_l0 0");
    Need(sae.k >= 1, "sae.k: ", sae.k, ": ", sae.architecture, " needs k of 1 or more");
    Need(sae.k <= sae.latents, "sae.k: ", sae.k, " is more than sae.latents ", sae.latents,
         ": choose a smaller k or a larger dictionary");
    Need(!sae.multi_topk || 4 * sae.k <= sae.latents, "sae.multi_topk: 4 x sae.k = ", 4 * sae.k,
         " is more than sae.latents ", sae.latents, ": choose a smaller k, or leave it false");
    const std::int64_t aux = sae.aux_k.value_or(0);
    Need(aux >= 0, "sae.aux_k: ", aux, " is negative: use auto, or 0 for none");
    Need(aux <= sae.latents, "sae.aux_k: ", aux, " is more than sae.latents ", sae.latents,
         ": use a smaller one, or auto");
    NotNegative("sae.aux_alpha", sae.aux_alpha);
  }

  void CheckPenalty() {
    const SaeConfig& sae = c_.sae;
    static const Words of_relu = {"l1", "l1_norm", "lp"}, of_jump = {"l0", "l0_quadratic", "tanh"};
    if (Ranked()) {
      Need(Penalty() == "none", "sae.penalty: ", Penalty(), ": ", sae.architecture,
           " has none: leave it auto");
    } else if (Is("gated")) {
      Need(Penalty() == "l1", "sae.penalty: ", Penalty(), ": gated has l1 only: leave it auto");
    } else if (Is("relu_l1") || Is("jumprelu")) {
      const Words& own = Is("relu_l1") ? of_relu : of_jump;
      Need(std::find(own.begin(), own.end(), Penalty()) != own.end(), "sae.penalty: ", Penalty(),
           " is none of ", sae.architecture, "'s: use ", absl::StrJoin(own, ", "), " or auto");
    }
    if (Is("gated")) {
      Need(sae.target_l0 > 0 || sae.l1_coefficient > 0, "sae.l1_coefficient: ", sae.l1_coefficient,
           ": gated needs one above 0, or a sae.target_l0");
    }
    if (Is("jumprelu") && Penalty() == "l0_quadratic") {
      Need(sae.target_l0 > 0, "sae.target_l0: ", sae.target_l0,
           ": l0_quadratic pulls L0 to a target: set one above 0");
      Need(sae.l0_coefficient > 0, "sae.l0_coefficient: ", sae.l0_coefficient,
           ": l0_quadratic is the control itself, so its weight is never controlled: set one above "
           "0 (0.1 to begin with)");
    } else if (Is("jumprelu")) {
      Need(sae.target_l0 > 0 || sae.l0_coefficient > 0, "sae.l0_coefficient: ", sae.l0_coefficient,
           ": jumprelu needs one above 0, or a sae.target_l0");
    }
    if (Penalty() == "lp") {
      Need(sae.p_end > 0 && sae.p_end <= 1, "sae.p_end: ", sae.p_end, " is not in (0, 1]");
    }
    if (Penalty() == "tanh") {
      Positive("sae.tanh_scale", sae.tanh_scale);
      NotNegative("sae.pre_act_coefficient", sae.pre_act_coefficient);
    }
  }

  void CheckThresholds() {
    const SaeConfig& sae = c_.sae;
    if (!Is("jumprelu")) {
      Need(!(sae.frequency_coefficient > 0),
           "sae.frequency_coefficient: ", sae.frequency_coefficient, ": only jumprelu has it, not ",
           sae.architecture, ": leave it 0");
      return;
    }
    NotNegative("sae.frequency_coefficient", sae.frequency_coefficient);
    if (sae.bandwidth) Positive("sae.bandwidth", *sae.bandwidth, ", or auto");
    if (sae.threshold_init) Positive("sae.threshold_init", *sae.threshold_init, ", or auto");
    if (sae.threshold_lr) Positive("sae.threshold_lr", *sae.threshold_lr, ", or auto");
  }

  void CheckTranscoder() {
    const SaeConfig& sae = c_.sae;
    Need(!sae.skip || sae.transcoder,
         "sae.skip: true: a linear skip needs another target than its input: set sae.transcoder "
         "too, or leave it false");
    if (!sae.transcoder) return;
    Need(sae.pre_bias != "on",
         "sae.pre_bias: on: a transcoder's output bias lies in the space of targets and cannot be "
         "subtracted from inputs: use off or auto");
    Need(sae.input_scale != "layer_norm",
         "sae.input_scale: layer_norm: a transcoder's output has not the mean and deviation of its "
         "input: use rms, mean_norm or none");
    Need(d_ <= 0 || target_d_ > 0,
         "sae.transcoder: true: the store has no targets: make one with `saeloom harvest --hook "
         "HOOK --target-hook HOOK`");
  }

  void CheckLength() {
    const TrainConfig& train = c_.train;
    Need(train.tokens >= 1 && train.tokens <= 1e15, "train.tokens: ", train.tokens,
         ": needs 1 to 1e15");
    Need(train.batch >= 1, "train.batch: ", train.batch, ": needs 1 or more");
    Need(train.batch < 1 || !(train.tokens < static_cast<double>(train.batch)),
         "train.tokens: ", train.tokens, " is less than one batch of ", train.batch,
         ": train longer or use a smaller batch");
    if (train.eval_every_tokens) {
      Positive("train.eval_every_tokens", *train.eval_every_tokens, ", or auto");
    }
    NotNegative("train.checkpoint_every_seconds", train.checkpoint_every_seconds);
    Need(train.log_every_steps >= 1, "train.log_every_steps: ", train.log_every_steps,
         ": needs 1 or more");
  }

  void CheckOptimizer() {
    const TrainConfig& train = c_.train;
    if (train.lr) Positive("train.lr", *train.lr, ", or auto");
    if (train.beta1) Share("train.beta1", *train.beta1);
    Share("train.beta2", train.beta2);
    if (train.epsilon) Positive("train.epsilon", *train.epsilon, ", or auto");
    Need(train.lr_decay_fraction >= 0 && train.lr_decay_fraction <= 1,
         "train.lr_decay_fraction: ", train.lr_decay_fraction, " is not in [0, 1]");
    Steps("train.lr_warmup_steps", train.lr_warmup_steps);
    Steps("train.sparsity_warmup_steps", train.sparsity_warmup_steps);
    NotNegative("train.clip", train.clip);
    Share("train.ema", train.ema);
  }

  void Steps(const char* path, const std::optional<std::int64_t>& steps) {
    Need(steps.value_or(0) >= 0, path, ": ", steps.value_or(0), " is negative: use 0, or auto");
  }

  /// Rows that a step does not touch cannot follow what moves all of them (spec numerics.md 4).
  void CheckRows() {
    const TrainConfig& train = c_.train;
    Need(train.moments == "f32" || train.rows == "dense", "train.moments: ", train.moments,
         ": not with train.rows ", train.rows,
         ": a row that rests would have to be rounded again for each step: use f32, or dense rows");
    const std::string& decoder = resolved_.sae.decoder;
    if (train.rows == "lazy") {
      const double beta1 = *resolved_.train.beta1;
      Need(!(beta1 > 0), "train.rows: lazy: with train.beta1 ", beta1,
           " a row moves on after its gradient has ended: set train.beta1 0, or use dense");
      Need(!(train.ema > 0), "train.rows: lazy: train.ema ", train.ema,
           " averages every row at every step: set it 0, or use dense");
      Need(
          Penalty() != "tanh",
          "train.rows: lazy: penalty tanh has a pre-activation loss, whose gradient reaches silent "
          "latents: use dense");
      Need(decoder == "unit" || decoder == "free", "train.rows: lazy: not with sae.decoder ",
           decoder, ": use unit or free, or dense rows");
    } else if (train.rows == "deferred") {
      Need(!(train.ema > 0), "train.rows: deferred: train.ema ", train.ema,
           " averages every row at every step: set it 0, or use dense");
      Need(!(train.clip > 0), "train.rows: deferred: train.clip ", train.clip,
           " needs the whole gradient at every step: set it 0, or use dense");
      Need(decoder == "unit" || decoder == "free", "train.rows: deferred: not with sae.decoder ",
           decoder, ": use unit or free, or dense rows");
    }
  }

  void CheckReduction() {
    if (c_.train.reduction != "fixed") return;
    Need(c_.ranks < 1 || kVirtualBlocks % c_.ranks == 0, "train.reduction: fixed: ranks ", c_.ranks,
         " does not divide 16: use 1, 2, 4, 8 or 16 ranks, or fast");
    Need(c_.sae.latents % kVirtualBlocks == 0, "train.reduction: fixed: sae.latents ",
         c_.sae.latents, " is no multiple of 16: choose one that is, or fast");
  }

  void CheckMesh() {
    if (!c_.train.replicas) return;
    const std::int64_t replicas = *c_.train.replicas;
    Need(replicas >= 1, "train.replicas: ", replicas, ": needs 1 or more, or auto");
    if (replicas <= 1 || c_.ranks < 1 || c_.train.batch < 1) return;
    Need(c_.ranks % replicas == 0, "train.replicas: ", replicas, " does not divide ranks ",
         c_.ranks, ": choose one that does, or auto");
    Need(c_.train.batch % replicas == 0, "train.replicas: ", replicas,
         " does not divide train.batch ", c_.train.batch, ": choose one that does, or auto");
    const std::string why = WhyOneReplica(c_);
    Need(why.empty(), "train.replicas: ", replicas, ": ", why, ", or set replicas 1");
  }

  void CheckColumns() {
    if (c_.train.decoder_layout != "columns") return;
    const auto refuse = [&](bool ok, const auto&... what) {
      Need(ok, "train.decoder_layout: columns: ", what..., ", or decoder_layout latents");
    };
    constexpr std::int64_t kBlocks = 8;
    refuse(c_.ranks < 1 || kBlocks % c_.ranks == 0, "ranks ", c_.ranks, ": use 1, 2, 4 or 8");
    const std::int64_t width = c_.sae.transcoder ? target_d_ : d_;
    refuse(width <= 0 || width % kBlocks == 0, "width ", width,
           " is no multiple of 8: use another store");
    const std::string& decoder = resolved_.sae.decoder;
    refuse(decoder == "unit" || decoder == "free", "sae.decoder ", decoder, ": use unit or free");
    refuse(c_.train.rows == "dense", "train.rows ", c_.train.rows, ": use dense");
    refuse(c_.train.moments == "f32", "train.moments ", c_.train.moments, ": use f32");
    refuse(!c_.sae.multi_topk, "sae.multi_topk true: use false");
    refuse(!c_.sae.skip, "sae.skip true: use false");
    refuse(c_.sae.resample != "on", "sae.resample on: use off");
  }

  const TrialConfig& c_;
  const TrialConfig resolved_;
  const std::int64_t d_, target_d_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::Status Validate(const TrialConfig& config, std::int64_t d, std::int64_t target_d) {
  return Checker(config, d, target_d).Run();
}

absl::StatusOr<std::vector<std::int64_t>> ParsePrefixes(const std::string& text,
                                                        std::int64_t latents) {
  std::vector<std::int64_t> out;
  if (text == "auto") {
    for (const std::int64_t part : {16, 8, 4, 2, 1}) {
      const std::int64_t width = latents / part;
      if (width >= 1 && (out.empty() || width > out.back())) out.push_back(width);
    }
    return out;
  }
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    std::int64_t width = 0;
    const bool whole = absl::SimpleAtoi(text.substr(begin, comma - begin), &width);
    if (!whole || width < 1 || width > latents || (!out.empty() && width <= out.back())) {
      return absl::InvalidArgumentError(absl::StrCat("sae.prefixes: '", text,
                                                     "': needs auto, or rising widths from 1 to ",
                                                     latents, " (sae.latents), as 128,512"));
    }
    out.push_back(width);
    begin = comma + 1;
  }
  if (out.back() != latents) out.push_back(latents);
  return out;
}

}  // namespace sae::config
