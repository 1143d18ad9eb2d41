// The decoder cut by columns: against the decoder cut by latents in float64, the same bits at 1, 2,
// 4 and 8 ranks, resumes across layouts, and what a token costs on the wire.
#include <cmath>
#include <map>
#include <utility>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Penalised;
using testing::Ranked;
using testing::RunVariant;
using testing::SavedState;

constexpr std::int64_t kWidth = 16, kSteps = 12;
constexpr double kTolerance = 1e-9;

std::vector<RunVariant> Variants() {
  return {
      {"topk_aux", Ranked("topk", 8), kWidth},
      {"topk_fvu_ema",
       Ranked("topk", 8,
              [](auto& c) {
                c.sae.loss = "fvu";
                c.train.ema = 0.9;
              }),
       kWidth},
      {"topk_free_clip",
       Ranked("topk", 8,
              [](auto& c) {
                c.sae.decoder = "free";
                c.train.clip = 0.1;
              }),
       kWidth},
      {"batchtopk_aux", Ranked("batchtopk", 8), kWidth},
      {"matryoshka_aux_clip",
       Ranked("matryoshka", 8,
              [](auto& c) {
                c.sae.prefixes = "5,24";
                c.sae.prefix_weights = "mean_with_bias";
                c.train.clip = 0.2;
              }),
       kWidth},
      {"relu_l1", Penalised("relu_l1"), kWidth},
      {"relu_l1_norm", Penalised("relu_l1", [](auto& c) { c.sae.penalty = "l1_norm"; }), kWidth},
      {"relu_l1_norm_ema",
       Penalised("relu_l1",
                 [](auto& c) {
                   c.sae.penalty = "l1_norm";
                   c.train.ema = 0.9;
                 }),
       kWidth},
      {"relu_lp_target",
       Penalised("relu_l1",
                 [](auto& c) {
                   c.sae.penalty = "lp";
                   c.sae.target_l0 = 6;
                 }),
       kWidth},
      {"gated", Penalised("gated"), kWidth},
      {"jumprelu", Penalised("jumprelu"), kWidth},
      {"jumprelu_tanh",
       Penalised("jumprelu",
                 [](auto& c) {
                   c.sae.penalty = "tanh";
                   c.sae.bandwidth = 0.02;
                   c.sae.l0_coefficient = 0.005;
                 }),
       kWidth},
      {"transcoder_topk", Ranked("topk", 8, [](auto& c) { c.sae.transcoder = true; }), 24},
  };
}

struct Request {
  RunVariant variant;
  const char* layout = "columns";
  std::int64_t ranks = 1;
  bool fixed = false;
  const SavedState* start = nullptr;
  std::size_t first = 0, last = kSteps;
};

struct Result {
  SavedState end;
  std::vector<double> losses;
  std::map<std::string, double> heldout;
  std::map<std::string, double> bytes;  ///< of the last step, summed over ranks
};

config::TrialConfig ConfigOf(const Request& r) {
  config::TrialConfig c = testing::ConfigOf(r.variant, r.ranks);
  c.train.replicas = 1;
  c.train.decoder_layout = r.layout;
  if (r.fixed) c.train.reduction = "fixed";
  return c;
}

template <class T>
Result Train(const Request& r) {
  Result out;
  Mutex mutex;
  const config::TrialConfig config = ConfigOf(r);
  testing::SparseData data(40, kWidth + (config.sae.transcoder ? r.variant.d_out : 0), 3, 5);
  std::vector<std::vector<float>> batches;
  for (std::int64_t t = 0; t < kSteps; ++t) batches.push_back(data.Rows(config.train.batch, 4));
  const auto body = [&](comm::Communicator& c) -> absl::Status {
    ThreadPool pool(1);
    SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<T>(config, kWidth, r.variant.d_out, c, pool));
    // The dense step has other roundings.
    engine->set_dense_density(2);
    if (r.start != nullptr) {
      Restore(*r.start, *engine);
    } else {
      SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
    }
    std::vector<double> losses;
    std::map<std::string, double> metrics;
    for (std::size_t t = r.first; t < r.last; ++t) {
      SAE_RETURN_IF_ERROR(engine->Step(batches[t]));
      SAE_ASSIGN_OR_RETURN(metrics, engine->LastMetrics());
      losses.push_back(metrics.at("train.loss"));
    }
    engine->BeginEvaluation(std::vector<float>(static_cast<std::size_t>(r.variant.d_out), 0.4F));
    SAE_RETURN_IF_ERROR(engine->EvaluateBatch(batches.back()));
    SAE_ASSIGN_OR_RETURN(auto heldout, engine->FinishEvaluation());
    const model::State state = engine->state();
    MutexLock lock(mutex);
    Save(state, &out.end);
    for (const auto& [name, value] : metrics) {
      if (name.starts_with("bytes.")) out.bytes[name] += value;
    }
    if (c.rank() != 0) return absl::OkStatus();
    out.losses = losses;
    out.heldout = heldout;
    return absl::OkStatus();
  };
  const absl::Status status = comm::RunInProcess(static_cast<int>(r.ranks), body);
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

void ExpectNear(const Result& a, const Result& b, std::size_t from = 0) {
  ASSERT_EQ(a.end.tensors.size(), b.end.tensors.size());
  for (const auto& [name, bytes] : a.end.tensors) {
    if (name == "tokens_since_fired") {
      EXPECT_EQ(bytes, b.end.tensors.at(name));
      continue;
    }
    const std::vector<double> x = testing::Doubles(a.end, name), y = testing::Doubles(b.end, name);
    ASSERT_EQ(x.size(), y.size()) << name;
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
    EXPECT_LT(worst, kTolerance) << name;
  }
  ASSERT_EQ(a.losses.size(), b.losses.size() + from);
  for (std::size_t t = 0; t < b.losses.size(); ++t)
    EXPECT_NEAR(b.losses[t] / a.losses[from + t], 1, kTolerance) << t;
  for (const auto& [name, value] : a.heldout)
    EXPECT_NEAR(b.heldout.at(name), value, kTolerance * (1 + std::abs(value))) << name;
}

class EngineColumns : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineColumns, ::testing::ValuesIn(Variants()), testing::NameOf);

TEST_P(EngineColumns, AreTheRunOfLatents) {
  const Result latents = Train<double>({GetParam(), "latents"});
  EXPECT_LT(latents.losses.back(), latents.losses.front());
  for (const std::int64_t ranks : {1, 2, 4, 8}) {
    SCOPED_TRACE(ranks);
    ExpectNear(latents, Train<double>({GetParam(), "columns", ranks}));
  }
}

// With sums over latents in blocks too, everything is.
TEST_P(EngineColumns, FixedReductionGivesTheSameBitsAtAnyNumberOfRanks) {
  const Result one = Train<float>({GetParam(), "columns", 1, true});
  for (const std::int64_t ranks : {2, 4, 8}) {
    SCOPED_TRACE(ranks);
    const Result many = Train<float>({GetParam(), "columns", ranks, true});
    testing::ExpectSameBits(one.end, many.end);
  }
}

// One step from the same state: the decoder's gradients and the loss without the penalty's sum.
TEST_P(EngineColumns, DecoderGradientsAreTheSameBitsAtAnyNumberOfRanks) {
  if (ConfigOf({GetParam()}).train.clip > 0) return;  // scales by a sum over latents
  Request r{GetParam(), "columns", 1};
  r.last = 5;
  const Result start = Train<float>(r);
  r.start = &start.end;
  r.first = 5;
  r.last = 6;
  const Result one = Train<float>(r);
  EXPECT_NE(one.end.tensors.at("W_dec"), start.end.tensors.at("W_dec"));
  for (const std::int64_t ranks : {2, 4, 8}) {
    r.ranks = ranks;
    const Result many = Train<float>(r);
    SCOPED_TRACE(ranks);
    for (const char* name : {"W_dec", "W_dec.adam_m", "W_dec.adam_v", "b_enc", "b_enc.adam_m"})
      EXPECT_TRUE(one.end.tensors.at(name) == many.end.tensors.at(name)) << name;
    if (start.end.integers.contains("batch_threshold") || one.losses.empty()) continue;
    EXPECT_NEAR(many.losses[0], one.losses[0], 1e-12 * std::abs(one.losses[0]));
  }
}

TEST_P(EngineColumns, AStateOfOneLayoutGoesOnInTheOther) {
  constexpr std::size_t kCut = 6;
  const Result whole = Train<double>({GetParam(), "latents"});
  for (const auto& [from, to] :
       {std::pair<const char*, const char*>{"columns", "latents"}, {"latents", "columns"}}) {
    Request r{GetParam(), from, 4};
    r.last = kCut;
    const Result first = Train<double>(r);
    Request rest{GetParam(), to, 2};
    rest.start = &first.end;
    rest.first = kCut;
    SCOPED_TRACE(from);
    ExpectNear(whole, Train<double>(rest), kCut);
  }
}

// Winners, 8 parts of each one's gradient, counts and the loss; no reconstruction.
TEST(EngineColumnsBytes, ATokenCostsItsWinnersNotItsWidth) {
  const RunVariant variant{"", Ranked("topk", 0), kWidth};
  constexpr std::int64_t kRanks = 4, kK = 5, kBatch = testing::kRunBatch;
  const double columns = Train<float>({variant, "columns", kRanks}).bytes.at("bytes.decode");
  const double winners = kBatch * kK;
  EXPECT_EQ(columns, winners * 8 + winners * 8 * 4 + kRanks * (kBatch + 1) * 4 + 8 * 8);
  const double latents = Train<float>({variant, "latents", kRanks}).bytes.at("bytes.decode");
  EXPECT_EQ(latents, kRanks * kBatch * kWidth * 4);
}

}  // namespace
}  // namespace sae::train
