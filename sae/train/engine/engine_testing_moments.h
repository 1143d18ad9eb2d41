#pragma once
// For tests of `train.moments`: what the engine's rounding makes of a reference's moments, row by
// row with the functions of moment_format.h, and a saved state with its moments read back.

#include <cstring>
#include <string>
#include <vector>

#include "sae/kernels/moment_format.h"
#include "sae/model/reference.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train::testing {

/// `values`: rows of width d by global id, after step `step`.
inline void RoundRows(const std::string& moments, std::uint64_t seed, std::int64_t step,
                      kernels::MomentMatrix matrix, kernels::Moment moment, std::int64_t d,
                      std::vector<double>* values) {
  const auto rows = static_cast<std::int64_t>(values->size()) / d;
  std::vector<float> row(static_cast<std::size_t>(d));
  std::vector<std::uint16_t> halves(row.size());
  std::vector<std::uint8_t> codes(row.size());
  std::vector<float> scales(static_cast<std::size_t>(kernels::MomentBlocks(d)));
  constexpr auto kStochastic = kernels::MomentRounding::kStochastic;
  for (std::int64_t i = 0; i < rows; ++i) {
    double* const at = values->data() + i * d;
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = static_cast<float>(at[j]);
    const kernels::RoundingKey key = kernels::RoundingKeyOf(seed, static_cast<std::uint64_t>(step),
                                                            static_cast<std::uint64_t>(i), matrix);
    if (moments == "bf16") {
      kernels::EncodeBf16Row(0, d, row.data(), key, moment, kStochastic, halves.data());
      kernels::DecodeBf16Row(d, halves.data(), row.data());
    } else {
      kernels::Encode8Row(0, d, row.data(), key, moment, kStochastic, codes.data(), scales.data());
      kernels::Decode8Row(d, codes.data(), scales.data(), moment, row.data());
    }
    std::copy(row.begin(), row.end(), at);
  }
}

/// Of the matrices of `m` and `v` after step `step`; f32: nothing.
inline void RoundMoments(const config::TrialConfig& config, std::int64_t step,
                         model::ReferenceParameters* m, model::ReferenceParameters* v) {
  const std::string& moments = config.train.moments;
  if (moments == "f32") return;
  using kernels::Moment;
  using kernels::MomentMatrix;
  const auto seed = static_cast<std::uint64_t>(config.train.seed);
  for (const auto& [p, moment] : {std::pair{m, Moment::kFirst}, std::pair{v, Moment::kSecond}}) {
    RoundRows(moments, seed, step, MomentMatrix::kEncoder, moment, p->d, &p->w_enc);
    RoundRows(moments, seed, step, MomentMatrix::kDecoder, moment, p->out(), &p->w_dec);
  }
}

/// Turns the codes of both matrices' moments into float64, so that they read as another engine's.
inline void ReadMoments(const std::string& moments, std::int64_t latents, SavedState* state) {
  if (moments == "f32") return;
  for (const std::string name : {"W_enc.adam_m", "W_dec.adam_m", "W_enc.adam_v", "W_dec.adam_v"}) {
    const std::vector<char> bytes = state->tensors.at(name);
    const auto moment = name.back() == 'm' ? kernels::Moment::kFirst : kernels::Moment::kSecond;
    std::vector<double> values;
    if (moments == "bf16") {
      std::vector<std::uint16_t> codes(bytes.size() / 2);
      std::memcpy(codes.data(), bytes.data(), bytes.size());
      for (const std::uint16_t code : codes)
        values.push_back(static_cast<double>(kernels::DecodeBf16(code)));
    } else {
      const std::vector<char>& scale_bytes = state->tensors.at(name + "_scale");
      std::vector<float> scales(scale_bytes.size() / sizeof(float));
      std::memcpy(scales.data(), scale_bytes.data(), scale_bytes.size());
      const std::size_t d = bytes.size() / static_cast<std::size_t>(latents);
      const std::size_t blocks = scales.size() / static_cast<std::size_t>(latents);
      for (std::size_t at = 0; at < bytes.size(); ++at) {
        const float scale = scales[at / d * blocks + at % d / kernels::kMomentBlock];
        values.push_back(static_cast<double>(
            kernels::Decode8(static_cast<std::uint8_t>(bytes[at]), scale, moment)));
      }
      state->tensors.erase(name + "_scale");
    }
    state->tensors[name] = Bytes(values);
  }
}

/// Zeros for the scales that StateOf does not know.
inline void AddScales(std::int64_t latents, std::int64_t d, std::int64_t d_out, SavedState* state) {
  for (const char* suffix : {".adam_m_scale", ".adam_v_scale"}) {
    for (const auto& [name, width] : {std::pair{"W_enc", d}, std::pair{"W_dec", d_out}}) {
      state->tensors[std::string(name) + suffix].assign(
          static_cast<std::size_t>(latents * kernels::MomentBlocks(width)) * sizeof(float), 0);
    }
  }
}

}  // namespace sae::train::testing
