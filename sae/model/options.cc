#include "sae/model/options.h"

#include <algorithm>

#include "sae/base/check.h"

namespace sae::model {
namespace {

// The value whose word is `text`; the config is valid, so a miss is a bug.
template <class E>
E Pick(const std::string& text, std::initializer_list<std::pair<const char*, E>> words) {
  for (const auto& [word, value] : words) {
    if (text == word) return value;
  }
  SAE_CHECK_MSG(false, "no option is called %s", text.c_str());
  return words.begin()->second;
}

void SetPrefixes(const config::SaeConfig& sae, Options* out) {
  out->prefixes = {sae.latents};
  out->prefix_weights = {1};
  if (out->architecture != Architecture::kMatryoshka) return;
  const auto prefixes = config::ParsePrefixes(sae.prefixes, sae.latents);
  SAE_CHECK_MSG(prefixes.ok(), "sae.prefixes: %s", sae.prefixes.c_str());
  out->prefixes = *prefixes;
  const auto groups = static_cast<double>(prefixes->size());
  const bool bias = sae.prefix_weights == "mean_with_bias";
  const double weight = sae.prefix_weights == "sum" ? 1 : 1 / (groups + (bias ? 1 : 0));
  out->prefix_weights.assign(prefixes->size(), weight);
  out->bias_weight = bias ? weight : 0;
}

}  // namespace

Options OptionsOf(const config::TrialConfig& c) {
  Options o;
  o.architecture = Pick<Architecture>(c.sae.architecture,
                                      {{"relu_l1", Architecture::kReluL1},
                                       {"topk", Architecture::kTopK},
                                       {"batchtopk", Architecture::kBatchTopK},
                                       {"matryoshka", Architecture::kMatryoshka},
                                       {"gated", Architecture::kGated},
                                       {"jumprelu", Architecture::kJumpRelu}});
  if (!o.ranked()) {
    o.penalty = Pick<Penalty>(c.sae.penalty, {{"l1", Penalty::kL1},
                                              {"l1_norm", Penalty::kL1Norm},
                                              {"lp", Penalty::kLp},
                                              {"l0", Penalty::kL0},
                                              {"l0_quadratic", Penalty::kL0Quadratic},
                                              {"tanh", Penalty::kTanh}});
  }
  o.decoder = Pick<DecoderMode>(c.sae.decoder, {{"unit", DecoderMode::kUnit},
                                                {"unit_before", DecoderMode::kUnitBefore},
                                                {"free", DecoderMode::kFree},
                                                {"on_the_fly", DecoderMode::kOnTheFly}});
  o.input_scale = Pick<InputScale>(c.sae.input_scale, {{"rms", InputScale::kRms},
                                                       {"mean_norm", InputScale::kMeanNorm},
                                                       {"layer_norm", InputScale::kLayerNorm},
                                                       {"none", InputScale::kNone}});
  o.loss = Pick<LossReduction>(c.sae.loss, {{"sum", LossReduction::kSum},
                                            {"mean", LossReduction::kMean},
                                            {"openai", LossReduction::kOpenAi},
                                            {"fvu", LossReduction::kFvu}});
  o.threshold = Pick<ThresholdParameter>(
      c.sae.threshold_parameter,
      {{"log", ThresholdParameter::kLog}, {"raw", ThresholdParameter::kRaw}});
  o.rows = Pick<RowMode>(c.train.rows, {{"dense", RowMode::kDense},
                                        {"lazy", RowMode::kLazy},
                                        {"deferred", RowMode::kDeferred}});
  o.pre_bias = c.sae.pre_bias == "on";
  o.transcoder = c.sae.transcoder;
  o.skip = c.sae.skip;
  o.certified = c.train.selection == "certified";
  o.fixed_reduction = c.train.reduction == "fixed";
  o.columns = c.train.decoder_layout == "columns";
  SetPrefixes(c.sae, &o);
  return o;
}

}  // namespace sae::model
