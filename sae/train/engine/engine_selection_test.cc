// What is selected where shards could matter: ties, and winners that crowd on one shard.
#include <algorithm>
#include <numeric>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Ranked;
using testing::RunVariant;
using testing::SavedState;
using testing::Selection;

constexpr std::int64_t kLatents = 32;
constexpr std::int64_t kWidth = testing::kRunWidth;
constexpr std::int64_t kBatch = 19;
constexpr std::int64_t kK = 5;  // odd, as kK * kBatch: the last winner of tied pairs is alone
constexpr double kVariance = 0.8;

config::TrialConfig TiesConfig(const RunVariant& variant, std::int64_t ranks) {
  config::TrialConfig c = testing::TopKConfig(kLatents, kK, kBatch, ranks);
  variant.set(c);
  c.train.beta1 = 0;  // m after a step is the gradient
  c.sae.decoder = "free";
  c.sae.dead_after_tokens = 1000;
  return c;
}

// Latent i and its twin i + n / 2 have the same pre-activation on every token; about half of the
// pairs live on two shards.
model::ReferenceParameters Twins(std::uint64_t seed) {
  Random random(seed);
  model::ReferenceParameters p;
  p.n = kLatents;
  p.d = kWidth;
  const auto draw = [&](std::int64_t count, double scale) {
    std::vector<double> out(static_cast<std::size_t>(count));
    for (double& v : out) v = scale * random.Normal();
    return out;
  };
  p.w_enc = draw(kLatents * kWidth, 0.4);
  p.b_enc = draw(kLatents, 0.1);
  p.w_dec = draw(kLatents * kWidth, 0.3);
  p.b_dec = draw(kWidth, 0.2);
  for (double& v : p.b_enc) v += 0.5;
  std::copy_n(p.w_enc.begin(), p.w_enc.size() / 2, p.w_enc.begin() + kLatents / 2 * kWidth);
  std::copy_n(p.b_enc.begin(), kLatents / 2, p.b_enc.begin() + kLatents / 2);
  return p;
}

struct StepResult {
  Selection selection;
  SavedState state;
};

StepResult StepFrom(const config::TrialConfig& config, const SavedState& start,
                    const std::vector<float>& rows) {
  StepResult out;
  Mutex mutex;
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(config.ranks), [&](comm::Communicator& c) -> absl::Status {
        ThreadPool pool(2);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(config, kWidth, c, pool));
        Restore(start, *engine);
        SAE_RETURN_IF_ERROR(engine->Step(rows));
        SAE_ASSIGN_OR_RETURN(auto selection, engine->LastSelection());
        MutexLock lock(mutex);
        Save(engine->state(), &out.state);
        if (c.rank() == 0) out.selection = std::move(selection);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

Selection SelectionOf(const std::vector<double>& codes) {
  Selection out(codes.size() / kLatents);
  for (std::size_t e = 0; e < codes.size(); ++e) {
    if (codes[e] > 0) out[e / kLatents].push_back(static_cast<std::int64_t>(e % kLatents));
  }
  return out;
}

void ExpectGradient(const SavedState& s, const std::string& name, const std::vector<double>& want) {
  const std::vector<double> g = testing::Doubles(s, name);
  ASSERT_EQ(g.size(), want.size());
  for (std::size_t i = 0; i < g.size(); ++i) ASSERT_NEAR(g[i], want[i], 1e-12) << name << " " << i;
}

std::vector<float> RowsOf(std::uint64_t seed) {
  Random random(seed);
  std::vector<float> rows(kBatch * kWidth);
  for (float& v : rows) v = static_cast<float>(random.Normal());
  return rows;
}

class EngineTies : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(
    Ranked, EngineTies,
    ::testing::Values(RunVariant{"topk", Ranked("topk", 0)},
                      RunVariant{"topk_aux", Ranked("topk", 3)},
                      RunVariant{"topk_multi",
                                 Ranked("topk", 0, [](auto& c) { c.sae.multi_topk = true; })},
                      RunVariant{"batchtopk", Ranked("batchtopk", 0)},
                      RunVariant{"batchtopk_aux", Ranked("batchtopk", 3)},
                      RunVariant{"matryoshka", Ranked("matryoshka", 3)}),
    testing::NameOf);

// Property 29. AuxK's and the wider selection show in the gradients.
TEST_P(EngineTies, GoToTheLowerLatentWhateverTheShardingAndTheBatchOrder) {
  const model::ReferenceParameters p = Twins(31);
  const std::vector<float> rows = RowsOf(32);
  const config::TrialConfig resolved = config::Resolve(TiesConfig(GetParam(), 1), kWidth);
  model::ReferenceOptions o = model::ReferenceOptionsOf(resolved);
  std::vector<std::int64_t> since(kLatents, 0);
  model::ReferenceParameters q = p;
  if (o.aux_k > 0) {
    // Dead twins that stay silent in the main selection.
    for (const std::size_t i : {3, 7, 11, 14}) {
      for (const std::size_t twin : {i, i + kLatents / 2}) {
        since[twin] = 5000;
        q.b_enc[twin] = -0.1;
      }
    }
    o.aux_scale =
        model::ReferenceAuxScale(resolved.sae.aux_alpha, o.loss, kBatch, kWidth, kVariance);
  }
  o.sample_variance = kVariance;
  for (const bool reversed : {false, true}) {
    std::vector<float> batch;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const auto from = rows.begin() + (reversed ? kBatch - 1 - b : b) * kWidth;
      batch.insert(batch.end(), from, from + kWidth);
    }
    const std::vector<double> x(batch.begin(), batch.end());
    o.dead.assign(kLatents, false);
    const Selection want = SelectionOf(model::ReferenceForwardBackward(q, x, x, o).codes);
    std::int64_t split = 0;  // tokens whose cut parts a pair
    for (std::size_t i = 0; i < kLatents; ++i) o.dead[i] = since[i] > 1000;
    for (const auto& ids : want) {
      std::set<std::int64_t> set(ids.begin(), ids.end());
      std::int64_t alone = 0;
      for (const std::int64_t i : ids) {
        o.dead[static_cast<std::size_t>(i)] = false;
        if (set.contains((i + kLatents / 2) % kLatents)) continue;
        EXPECT_LT(i, kLatents / 2);
        ++alone;
      }
      split += alone;
    }
    EXPECT_GT(split, 0);
    const auto reference = model::ReferenceForwardBackward(q, x, x, o);
    for (const std::int64_t ranks : {1, 2, 4, 8}) {
      SCOPED_TRACE(ranks);
      const StepResult got = StepFrom(TiesConfig(GetParam(), ranks),
                                      testing::StateOf(q, 1, kVariance, since, 0), batch);
      EXPECT_EQ(got.selection, want);
      ExpectGradient(got.state, "W_enc.adam_m", reference.gradient.w_enc);
      ExpectGradient(got.state, "W_dec.adam_m", reference.gradient.w_dec);
      ExpectGradient(got.state, "b_dec.adam_m", reference.gradient.b_dec);
    }
  }
}

// What some distributed trainers do: each of `shards` offers its `capacity` largest, the k largest
// of those win.
std::vector<std::int64_t> CapacityLimited(std::span<const double> row, std::int64_t k,
                                          std::int64_t shards, std::int64_t capacity) {
  const std::int64_t width = static_cast<std::int64_t>(row.size()) / shards;
  std::vector<std::int64_t> offered;
  for (std::int64_t s = 0; s < shards; ++s) {
    const auto part =
        row.subspan(static_cast<std::size_t>(s * width), static_cast<std::size_t>(width));
    for (const std::int64_t i : model::ReferenceTopK(part, capacity))
      offered.push_back(s * width + i);
  }
  std::stable_sort(offered.begin(), offered.end(), [&](std::int64_t a, std::int64_t b) {
    return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)];
  });
  offered.resize(static_cast<std::size_t>(k));
  std::sort(offered.begin(), offered.end());
  return offered;
}

// Property 13.
TEST(EngineCapacity, LimitedShardsLoseCrowdedWinnersAndTheEngineDoesNot) {
  constexpr std::int64_t kShards = 4, kWinners = 8;
  for (const bool crowded : {true, false}) {
    model::ReferenceParameters p = Twins(33);
    Random random(34);
    for (double& v : p.w_enc) v = 0.1 * random.Normal();
    for (std::int64_t i = 0; i < kLatents; ++i) {
      const bool wins = crowded ? i / kWinners == 2 : i % kShards == 1;
      p.b_enc[static_cast<std::size_t>(i)] = (wins ? 50 : 20) + 0.1 * random.Uniform();
    }
    const std::vector<float> rows = RowsOf(35);
    const std::vector<double> x(rows.begin(), rows.end());
    const std::vector<double> z = model::ReferencePreActivations(p, x);
    Selection exact, limited;
    for (std::int64_t b = 0; b < kBatch; ++b) {
      const auto row = std::span(z).subspan(static_cast<std::size_t>(b * kLatents), kLatents);
      exact.push_back(model::ReferenceTopK(row, kWinners));
      limited.push_back(CapacityLimited(row, kWinners, kShards, kWinners / kShards));
      EXPECT_EQ(exact.back() == limited.back(), !crowded);
    }
    config::TrialConfig config = testing::TopKConfig(kLatents, kWinners, kBatch, kShards);
    const SavedState start = testing::StateOf(p, 1, 1, std::vector<std::int64_t>(kLatents, 0), 0);
    EXPECT_EQ(StepFrom(config, start, rows).selection, exact);
    config.sae.architecture = "batchtopk";  // as many winners of each token here
    EXPECT_EQ(StepFrom(config, start, rows).selection, exact);
  }
}

}  // namespace
}  // namespace sae::train
