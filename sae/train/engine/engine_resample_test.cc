// Resampling: what becomes of dead latents, that living ones do not notice, and that the number of
// ranks does not matter.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Penalised;
using testing::RunOutcome;
using testing::RunRequest;
using testing::SavedState;

constexpr std::int64_t kLatents = testing::kRunLatents;
constexpr std::int64_t kWidth = testing::kRunWidth;
constexpr std::size_t kDue = 12;  // an eighth of 100 steps

bool Dead(std::size_t latent) { return latent % 4 == 1; }

class EngineResample : public ::testing::TestWithParam<std::string> {
 protected:
  RunRequest Request(std::int64_t ranks, const char* resample) const {
    RunRequest r;
    r.config = testing::ConfigOf({"", Penalised(GetParam().c_str())}, ranks);
    r.config.train.reduction = "fixed";
    r.config.sae.resample = resample;
    r.config.sae.dead_after_tokens = 1000;  // longer than the run: only those made dead below
    r.batches = testing::BatchesOf(r.config, kWidth, static_cast<std::int64_t>(kDue));
    return r;
  }

  /// The state before step kDue - 1, a quarter of the latents silenced for long.
  SavedState Silenced() const {
    RunRequest r = Request(1, "on");
    r.save_before = {static_cast<std::int64_t>(kDue) - 1};
    SavedState s = testing::Run<float>(r).before.at(static_cast<std::int64_t>(kDue) - 1);
    auto* since = reinterpret_cast<std::int64_t*>(s.tensors.at("tokens_since_fired").data());
    auto* bias = reinterpret_cast<float*>(s.tensors.at("b_enc").data());
    for (std::size_t i = 0; i < kLatents; ++i) {
      if (!Dead(i)) continue;
      since[i] = 5000;
      bias[i] = -50;
    }
    return s;
  }

  SavedState After(const SavedState& start, std::int64_t ranks, const char* resample) const {
    RunRequest r = Request(ranks, resample);
    r.start = &start;
    r.first = kDue - 1;
    return testing::Run<float>(r).end;
  }
};
INSTANTIATE_TEST_SUITE_P(Architectures, EngineResample, ::testing::Values("relu_l1", "gated"),
                         [](const auto& test) { return test.param; });

std::span<const float> Row(const SavedState& s, const std::string& name, std::size_t latent) {
  const std::vector<char>& bytes = s.tensors.at(name);
  const std::size_t width = bytes.size() / sizeof(float) / kLatents;
  return {reinterpret_cast<const float*>(bytes.data()) + latent * width, width};
}

double Norm(std::span<const float> v) {
  double squares = 0;
  for (const float x : v) squares += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(squares);
}

bool PerLatent(const std::string& name) {
  return !name.starts_with("b_dec") && name != "tokens_since_fired";
}

// Property 21.
TEST_P(EngineResample, DeadLatentsStartOverAndLivingOnesKeepTheirBits) {
  const SavedState start = Silenced();
  const SavedState with = After(start, 1, "on"), without = After(start, 1, "off");
  double alive_norm = 0, alive = 0;
  for (std::size_t i = 0; i < kLatents; ++i) {
    if (Dead(i)) continue;
    alive_norm += Norm(Row(without, "W_enc", i));
    alive += 1;
  }
  for (std::size_t i = 0; i < kLatents; ++i) {
    SCOPED_TRACE(i);
    for (const auto& [name, bytes] : with.tensors) {
      if (!PerLatent(name)) continue;
      const auto row = Row(with, name, i), other = Row(without, name, i);
      const bool same = std::equal(row.begin(), row.end(), other.begin());
      if (!Dead(i)) {
        EXPECT_TRUE(same) << name;
      } else if (name.find(".adam_") != std::string::npos || name == "b_enc" || name == "b_mag" ||
                 name == "r_mag") {
        EXPECT_EQ(Norm(row), 0) << name;
      } else {
        EXPECT_FALSE(same) << name;
      }
    }
    if (!Dead(i)) continue;
    const auto dec = Row(with, "W_dec", i), enc = Row(with, "W_enc", i);
    EXPECT_NEAR(Norm(dec), 1, 1e-6);
    EXPECT_NEAR(Norm(enc), 0.2 * alive_norm / alive, 1e-4 * alive_norm / alive);
    for (std::size_t j = 0; j < dec.size(); ++j) EXPECT_NEAR(enc[j] / Norm(enc), dec[j], 1e-5);
  }
  const auto* since =
      reinterpret_cast<const std::int64_t*>(with.tensors.at("tokens_since_fired").data());
  for (std::size_t i = 0; i < kLatents; ++i) {
    if (!Dead(i)) continue;
    EXPECT_EQ(since[i], 0) << i;
  }
  EXPECT_EQ(with.tensors.at("b_dec"), without.tensors.at("b_dec"));
}

// Property 21: each direction is that of a token of the batch, less b_dec.
TEST_P(EngineResample, NewDirectionsAreTokensOfTheBatch) {
  const SavedState start = Silenced();
  const SavedState end = After(start, 1, "on");
  const std::vector<float> rows = Request(1, "on").batches.back();
  const double scale = end.doubles.at("input_scale");
  const auto* b_dec = reinterpret_cast<const float*>(end.tensors.at("b_dec").data());
  std::set<std::int64_t> used;
  for (std::size_t i = 0; i < kLatents; ++i) {
    if (!Dead(i)) continue;
    const auto dec = Row(end, "W_dec", i);
    double best = -1;
    std::int64_t token = -1;
    for (std::int64_t b = 0; b < testing::kRunBatch; ++b) {
      double dot = 0, squares = 0;
      for (std::size_t j = 0; j < kWidth; ++j) {
        const double v =
            rows[static_cast<std::size_t>(b * kWidth) + j] / scale - static_cast<double>(b_dec[j]);
        dot += v * static_cast<double>(dec[j]);
        squares += v * v;
      }
      if (dot / std::sqrt(squares) > best) {
        best = dot / std::sqrt(squares);
        token = b;
      }
    }
    EXPECT_GT(best, 1 - 1e-5) << i;
    used.insert(token);
  }
  EXPECT_GT(used.size(), 2U);  // drawn, not one token for all
}

// Property 21.
TEST_P(EngineResample, IsTheSameAtAnyNumberOfRanks) {
  const SavedState start = Silenced();
  const SavedState one = After(start, 1, "on");
  for (const std::int64_t ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    testing::ExpectSameBits(one, After(start, ranks, "on"));
  }
}

}  // namespace
}  // namespace sae::train
