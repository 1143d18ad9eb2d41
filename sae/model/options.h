#pragma once
// What an SAE is and how it is trained, as enums: the words of a resolved config, read once. Plain
// values. Sources: spec algorithms.md 0-4, 7; numerics.md 4-6.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/config/run_config.h"

namespace sae::model {

enum class Architecture { kReluL1, kTopK, kBatchTopK, kMatryoshka, kGated, kJumpRelu };
enum class Penalty {
  kL1,           ///< lambda sum f
  kL1Norm,       ///< lambda sum f |d_i|                          (April 2024)
  kLp,           ///< lambda_p sum f^p, p annealed from 1
  kL0,           ///< lambda sum 1[z > theta]                     (JumpReLU)
  kL0Quadratic,  ///< lambda (mean L0 / target - 1)^2
  kTanh,         ///< lambda sum tanh(c f |d_i|) + lambda_P sum ReLU(theta - z) |d_i|
};
enum class DecoderMode {
  kUnit,        ///< project, Adam, renormalise
  kUnitBefore,  ///< renormalise, project, Adam: the forward pass sees rows off the sphere (OpenAI)
  kFree,
  kOnTheFly,    ///< parameter v, direction v / |v|
};
enum class InputScale { kRms, kMeanNorm, kLayerNorm, kNone };
/// R(e) = rho sum over tokens and d of e^2.
enum class LossReduction {
  kSum,     ///< rho = 1 / B
  kMean,    ///< rho = 1 / (B d)
  kOpenAi,  ///< rho = c / (B d), c = 1 / mean((x - mean x)^2) of the initial sample
  kFvu,     ///< rho = 1 / sum over the batch of |y - mean y|^2
};
enum class ThresholdParameter { kLog, kRaw };
enum class RowMode { kDense, kLazy, kDeferred };

struct Options {
  Architecture architecture = Architecture::kTopK;
  Penalty penalty = Penalty::kL1;
  DecoderMode decoder = DecoderMode::kUnit;
  InputScale input_scale = InputScale::kRms;
  LossReduction loss = LossReduction::kSum;
  ThresholdParameter threshold = ThresholdParameter::kLog;
  RowMode rows = RowMode::kDense;
  bool pre_bias = true;   ///< s
  bool transcoder = false;
  bool skip = false;
  bool certified = false;
  bool fixed_reduction = false;
  bool columns = false;  ///< the decoder is cut by columns: train.decoder_layout
  /// Matryoshka: m_1 < ... < m_G = n and w_1 .. w_G; else {n} and {1}.
  std::vector<std::int64_t> prefixes;
  std::vector<double> prefix_weights;
  double bias_weight = 0;  ///< Matryoshka: of R(b_dec - x)

  /// topk, batchtopk, matryoshka: latents are chosen by rank, dead ones helped by AuxK.
  bool ranked() const {
    return architecture == Architecture::kTopK || architecture == Architecture::kBatchTopK ||
           architecture == Architecture::kMatryoshka;
  }
};

/// Of a resolved, valid config.
Options OptionsOf(const config::TrialConfig& resolved);

}  // namespace sae::model
