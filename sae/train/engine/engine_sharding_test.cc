// One rank against two and four: the same steps from the same states, and free runs.
#include <cmath>
#include <cstdio>

#include "gtest/gtest.h"

#include "sae/base/mutex.h"
#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

using testing::SavedState;
using Selection = std::vector<std::vector<std::int64_t>>;

constexpr std::int64_t kLatents = 256;
constexpr std::int64_t kWidth = 24;
constexpr std::int64_t kBatch = 48;
constexpr int kSteps = 100;

struct Trace {
  std::vector<SavedState> before;  // state before each step
  std::vector<Selection> selections;
  std::vector<double> losses;
  SavedState end;
};

std::vector<std::vector<float>> Batches() {
  testing::SparseData data(64, kWidth, 4, 3);
  std::vector<std::vector<float>> out;
  for (int t = 0; t < kSteps; ++t) out.push_back(data.Rows(kBatch, 7.5));
  return out;
}

config::TrialConfig Config(const std::string& architecture, std::int64_t ranks) {
  config::TrialConfig c = architecture == "topk"
                              ? testing::TopKConfig(kLatents, 8, kBatch, ranks)
                              : testing::ReluConfig(kLatents, 0.05, kBatch, ranks);
  if (architecture == "topk") c.sae.aux_k = 16;
  c.sae.dead_after_tokens = 5 * kBatch;
  c.train.tokens = kSteps * kBatch;
  c.train.lr = 3e-3;
  return c;
}

// A free run from the initial sample; `keep` stores the state before each step.
template <class T>
Trace FreeRun(const config::TrialConfig& config, const std::vector<std::vector<float>>& batches,
              bool keep) {
  Trace trace;
  trace.before.resize(batches.size());
  Mutex mutex;
  const absl::Status status =
      comm::RunInProcess(static_cast<int>(config.ranks), [&](comm::Communicator& c) {
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<T>(config, kWidth, c, pool));
        SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
        for (std::size_t t = 0; t < batches.size(); ++t) {
          if (keep || t == 0) {
            MutexLock lock(mutex);
            Save(engine->state(), &trace.before[t]);
          }
          SAE_RETURN_IF_ERROR(engine->Step(batches[t]));
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          SAE_ASSIGN_OR_RETURN(auto selection, engine->LastSelection());
          if (c.rank() != 0) continue;
          trace.losses.push_back(metrics.at("train.loss"));
          trace.selections.push_back(std::move(selection));
        }
        MutexLock lock(mutex);
        Save(engine->state(), &trace.end);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return trace;
}

std::vector<double> Widened(const SavedState& s, const std::string& name) {
  const std::vector<char>& bytes = s.tensors.at(name);
  std::vector<float> narrow(bytes.size() / sizeof(float));
  std::memcpy(narrow.data(), bytes.data(), bytes.size());
  return {narrow.begin(), narrow.end()};
}

// Tokens whose k-th and next pre-activation differ by at most 1e-5 relative (in the state's float64
// z).
std::vector<bool> NearTies(const SavedState& s, const std::vector<float>& rows, std::int64_t k) {
  model::ReferenceParameters p{
      kLatents,           kWidth, Widened(s, "W_enc"), Widened(s, "b_enc"), Widened(s, "W_dec"),
      Widened(s, "b_dec")};
  std::vector<double> x(rows.begin(), rows.end());
  for (double& v : x) v /= s.doubles.at("input_scale");
  const std::vector<double> z = ReferencePreActivations(p, x);
  std::vector<bool> out;
  for (std::int64_t b = 0; b < kBatch; ++b) {
    std::vector<double> row(z.begin() + b * kLatents, z.begin() + (b + 1) * kLatents);
    std::sort(row.rbegin(), row.rend());
    const double last = row[static_cast<std::size_t>(k - 1)];
    out.push_back(last - row[static_cast<std::size_t>(k)] <= 1e-5 * std::abs(last));
  }
  return out;
}

struct Agreement {
  std::int64_t tokens = 0;
  std::int64_t near_ties = 0;
  std::int64_t differ = 0;        // at near ties
  std::int64_t differ_clear = 0;  // elsewhere
};

// Each step of `one` again at config.ranks ranks, from one's state before it.
Agreement CompareStepByStep(const config::TrialConfig& config, const Trace& one,
                            const std::vector<std::vector<float>>& batches) {
  Agreement agreement;
  const absl::Status status =
      comm::RunInProcess(static_cast<int>(config.ranks), [&](comm::Communicator& c) {
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<float>(config, kWidth, c, pool));
        for (std::size_t t = 0; t < batches.size(); ++t) {
          Restore(one.before[t], *engine);
          SAE_RETURN_IF_ERROR(engine->Step(batches[t]));
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          SAE_ASSIGN_OR_RETURN(const auto selection, engine->LastSelection());
          if (c.rank() != 0) continue;
          EXPECT_NEAR(metrics.at("train.loss") / one.losses[t], 1, 1e-5) << "step " << t;
          const std::vector<bool> near = config.sae.k > 0
                                             ? NearTies(one.before[t], batches[t], config.sae.k)
                                             : std::vector<bool>(kBatch, false);
          for (std::size_t b = 0; b < kBatch; ++b) {
            const bool differs = selection[b] != one.selections[t][b];
            ++agreement.tokens;
            agreement.near_ties += near[b] ? 1 : 0;
            (near[b] ? agreement.differ : agreement.differ_clear) += differs ? 1 : 0;
          }
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return agreement;
}

class EngineSharding : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Architectures, EngineSharding, ::testing::Values("topk", "relu_l1"),
                         [](const auto& test) { return test.param; });

TEST_P(EngineSharding, EachStepFromTheSameStateSelectsTheSame) {
  const auto batches = Batches();
  const Trace one = FreeRun<float>(Config(GetParam(), 1), batches, true);
  for (const std::int64_t ranks : {2, 4}) {
    const Agreement a = CompareStepByStep(Config(GetParam(), ranks), one, batches);
    std::printf("%s at %ld ranks: %ld tokens, %ld near ties, of them %ld selected otherwise\n",
                GetParam().c_str(), static_cast<long>(ranks), static_cast<long>(a.tokens),
                static_cast<long>(a.near_ties), static_cast<long>(a.differ));
    EXPECT_EQ(a.tokens, kSteps * kBatch);
    EXPECT_EQ(a.differ_clear, 0);
    EXPECT_LE(a.near_ties * 1000, a.tokens);
  }
}

TEST_P(EngineSharding, FreeRunsAgree) {
  const auto batches = Batches();
  const Trace one = FreeRun<float>(Config(GetParam(), 1), batches, false);
  EXPECT_LT(one.losses.back(), 0.7 * one.losses.front());
  for (const std::int64_t ranks : {2, 4}) {
    const Trace many = FreeRun<float>(Config(GetParam(), ranks), batches, false);
    // The initial parameters are the same bits at any number of ranks.
    EXPECT_EQ(one.before[0].tensors, many.before[0].tensors);
    for (std::size_t t = 0; t < batches.size(); ++t) {
      ASSERT_NEAR(many.losses[t] / one.losses[t], 1, 1e-4) << "step " << t << " at " << ranks;
    }
  }
}

TEST_P(EngineSharding, FreeRunsInFloat64SelectTheSame) {
  const auto batches = Batches();
  const Trace one = FreeRun<double>(Config(GetParam(), 1), batches, false);
  for (const std::int64_t ranks : {2, 4}) {
    const Trace many = FreeRun<double>(Config(GetParam(), ranks), batches, false);
    EXPECT_EQ(one.selections, many.selections);
    for (std::size_t t = 0; t < batches.size(); ++t)
      ASSERT_NEAR(many.losses[t] / one.losses[t], 1, 1e-10);
  }
}

TEST(EngineShardingCapacity, WinnersAllOnOneShardAreAllKept) {
  // Shard 1 of 2 holds every winner: a capacity below min(k, n / P) would lose some.
  config::TrialConfig config = testing::TopKConfig(16, 8, 4, 2);
  testing::SparseData data(8, 6, 2, 9);
  const std::vector<float> rows = data.Rows(4);
  const absl::Status status = comm::RunInProcess(2, [&](comm::Communicator& c) {
    ThreadPool pool(1);
    SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(config, 6, c, pool));
    SAE_RETURN_IF_ERROR(engine->Initialise(rows));
    for (const model::StateTensor& t : engine->state().tensors) {
      if (t.name != "b_enc") continue;
      for (int i = 0; i < 8; ++i) static_cast<double*>(t.data)[i] = c.rank() == 1 ? 100 : 1;
    }
    SAE_RETURN_IF_ERROR(engine->Step(rows));
    SAE_ASSIGN_OR_RETURN(const auto selection, engine->LastSelection());
    std::vector<std::int64_t> second;
    for (std::int64_t i = 0; i < 8; ++i) second.push_back(model::ShardOf(16, 2, 1).Global(i));
    for (const auto& ids : selection) EXPECT_EQ(ids, second);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace sae::train
