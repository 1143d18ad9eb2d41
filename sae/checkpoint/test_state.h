#pragma once
// A small state for this folder's tests: values are functions of the global index, so that any cut into
// ranks can be compared with any other.

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "sae/checkpoint/checkpoint.h"
#include "sae/model/state.h"

namespace sae::checkpoint {

struct TestState {
  TestState(std::int64_t n, std::int64_t width, int rank, int ranks, std::int64_t at_step, bool fill = true)
      : shard(model::ShardOf(n, ranks, rank)), d(width), count(shard.count) {
    encoder.assign(static_cast<std::size_t>(count * d), 0);
    fired.assign(static_cast<std::size_t>(count), 0);
    bias.assign(static_cast<std::size_t>(d), 0);
    if (!fill) return;
    step = at_step;
    scale = 0.1 * static_cast<double>(at_step) + 1.0 / 3;
    for (std::size_t i = 0; i < encoder.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      encoder[i] = static_cast<float>(shard.Global(at / d) * d + at % d) * 0.37F + static_cast<float>(at_step);
    }
    for (std::size_t i = 0; i < fired.size(); ++i)
      fired[i] = shard.Global(static_cast<std::int64_t>(i)) + 1000 * at_step;
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = 0.5 * static_cast<double>(i) + static_cast<double>(at_step);
  }
  model::State View() {
    return {shard,
            {{"W_enc", DType::kF32, {count, d}, encoder.data(), true},
             {"tokens_since_fired", DType::kI64, {count}, fired.data(), true},
             {"b_dec", DType::kF64, {d}, bias.data(), false}},
            {{"step", &step}, {"input_scale", &scale}}};
  }
  Info MakeInfo() const {
    Info info;
    info.step = step;
    info.tokens = step * 8;
    info.d = d;
    info.data_position = step * 8 + 1;
    info.config.sae.latents = shard.latents;
    info.config.sae.k = 2;
    info.config.train.tokens = 1000;
    info.store = "/somewhere/store";
    info.store_hash = "xxh3:0123456789abcdef";
    info.instruction_set = "avx2";
    info.source["hook"] = "blocks.4.hook_resid_post";
    return info;
  }
  bool operator==(const TestState& o) const {
    return encoder == o.encoder && fired == o.fired && bias == o.bias && step == o.step && scale == o.scale;
  }

  model::LatentShard shard;
  std::int64_t d, count;
  std::int64_t step = 0;
  double scale = 0;
  std::vector<float> encoder;
  std::vector<std::int64_t> fired;
  std::vector<double> bias;
};

}  // namespace sae::checkpoint
