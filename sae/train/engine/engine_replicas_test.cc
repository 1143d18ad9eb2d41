// Data parallelism: replicas that each take a part of the batch, their gradients averaged and their
// counters combined, are one rank with the whole batch. Replicas in a loop, and again as ranks of a
// communicator. With beta1 = 0 and moments of zero, Adam's m after one step is the gradient.
#include <algorithm>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::Penalised;
using testing::Ranked;
using testing::RunVariant;
using testing::SavedState;

constexpr std::int64_t kBatch = 32;

config::TrialConfig ReplicaConfig(const RunVariant& variant, std::int64_t replicas) {
  config::TrialConfig c = testing::ConfigOf(variant);
  c.train.batch = kBatch / replicas;
  c.train.tokens = 1000.0 * static_cast<double>(c.train.batch);
  c.train.beta1 = 0;
  c.train.lr_warmup_steps = 0;
  c.train.sparsity_warmup_steps = 0;
  return c;
}

absl::StatusOr<std::unique_ptr<Engine<double>>> Stepped(
    const RunVariant& variant, std::int64_t replicas, std::int64_t replica, const SavedState& start,
    const std::vector<float>& rows, comm::Communicator& self, ThreadPool& pool) {
  const std::size_t part = rows.size() / static_cast<std::size_t>(replicas);
  SAE_ASSIGN_OR_RETURN(auto engine,
                       CreateEngine<double>(ReplicaConfig(variant, replicas), testing::kRunWidth,
                                            variant.d_out, self, pool));
  Restore(start, *engine);
  SAE_RETURN_IF_ERROR(
      engine->Step(std::span(rows).subspan(static_cast<std::size_t>(replica) * part, part)));
  return engine;
}

struct Gradients {
  std::map<std::string, std::vector<double>> mean;
  std::vector<std::int64_t> since;  // 0: fired in some replica
};

bool IsGradient(const std::string& name) { return name.ends_with(".adam_m"); }

// The state in which replicas start: a fresh one, counters uneven.
SavedState StartOf(const RunVariant& variant, const std::vector<float>& rows) {
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  auto engine = CreateEngine<double>(ReplicaConfig(variant, 1), testing::kRunWidth, variant.d_out,
                                     *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->Initialise(rows).ok());
  SavedState s;
  Save((*engine)->state(), &s);
  std::vector<std::int64_t> since(testing::kRunLatents);
  for (std::size_t i = 0; i < since.size(); ++i) since[i] = static_cast<std::int64_t>(7 * i % 50);
  std::memcpy(s.tensors["tokens_since_fired"].data(), since.data(),
              since.size() * sizeof(std::int64_t));
  // No latent fires in every replica, some in none.
  std::vector<double> bias = testing::Doubles(s, "b_enc");
  for (std::size_t i = 0; i < bias.size(); ++i)
    bias[i] -= 0.02 * static_cast<double>(i % 8) + (i % 16 == 9 ? 10 : 0);
  s.tensors["b_enc"] = testing::Bytes(bias);
  return s;
}

std::vector<std::int64_t> Since(const SavedState& s) {
  const std::vector<char>& bytes = s.tensors.at("tokens_since_fired");
  std::vector<std::int64_t> out(bytes.size() / sizeof(std::int64_t));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

// Counters of replicas, minimum taken: 0 stays 0; else what was before plus all replicas' tokens.
void AddGlobalBatch(const std::vector<std::int64_t>& before, std::vector<std::int64_t>* since) {
  for (std::size_t i = 0; i < since->size(); ++i) {
    if ((*since)[i] > 0) (*since)[i] = before[i] + kBatch;
  }
}

Gradients SummedInALoop(const RunVariant& variant, std::int64_t replicas, const SavedState& start,
                        const std::vector<float>& rows) {
  Gradients out;
  out.since.assign(testing::kRunLatents, std::numeric_limits<std::int64_t>::max());
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  for (std::int64_t r = 0; r < replicas; ++r) {
    const auto engine = Stepped(variant, replicas, r, start, rows, *self, pool);
    EXPECT_TRUE(engine.ok()) << engine.status();
    SavedState s;
    Save((*engine)->state(), &s);
    for (const auto& [name, bytes] : s.tensors) {
      if (!IsGradient(name)) continue;
      const std::vector<double> g = testing::Doubles(s, name);
      std::vector<double>& mean = out.mean[name];
      mean.resize(g.size(), 0.0);
      for (std::size_t i = 0; i < g.size(); ++i) mean[i] += g[i] / static_cast<double>(replicas);
    }
    const std::vector<std::int64_t> since = Since(s);
    for (std::size_t i = 0; i < since.size(); ++i) out.since[i] = std::min(out.since[i], since[i]);
  }
  AddGlobalBatch(Since(start), &out.since);
  return out;
}

Gradients ReducedByACommunicator(const RunVariant& variant, std::int64_t replicas,
                                 const SavedState& start, const std::vector<float>& rows) {
  Gradients out;
  const absl::Status status = comm::RunInProcess(
      static_cast<int>(replicas), [&](comm::Communicator& world) -> absl::Status {
        const auto self = comm::CreateSelf();
        ThreadPool pool(1);
        SAE_ASSIGN_OR_RETURN(const auto engine,
                             Stepped(variant, replicas, world.rank(), start, rows, *self, pool));
        for (const model::StateTensor& t : engine->state().tensors) {
          std::int64_t count = 1;
          for (const std::int64_t n : t.shape) count *= n;
          if (t.name == "tokens_since_fired") {
            auto* since = static_cast<std::int64_t*>(t.data);
            SAE_RETURN_IF_ERROR(world.AllReduce(since, count, DType::kI64, comm::ReduceOp::kMin));
            if (world.rank() == 0) out.since.assign(since, since + count);
          } else if (IsGradient(t.name)) {
            auto* g = static_cast<double*>(t.data);
            SAE_RETURN_IF_ERROR(world.AllReduce(g, count, DType::kF64, comm::ReduceOp::kSum));
            if (world.rank() != 0) continue;
            std::vector<double>& mean = out.mean[t.name];
            mean.assign(g, g + count);
            for (double& v : mean) v /= static_cast<double>(replicas);
          }
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  AddGlobalBatch(Since(start), &out.since);
  return out;
}

void ExpectWhole(const Gradients& replicas, const SavedState& whole) {
  for (const auto& [name, mean] : replicas.mean) {
    const std::vector<double> g = testing::Doubles(whole, name);
    ASSERT_EQ(g.size(), mean.size());
    double moved = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      moved += std::abs(g[i]);
      ASSERT_NEAR(mean[i], g[i], 1e-12) << name << " " << i;
    }
    EXPECT_GT(moved, 1e-9) << name;
  }
  EXPECT_EQ(replicas.since, Since(whole));
  EXPECT_GT(std::count(replicas.since.begin(), replicas.since.end(), 0), 0);
  EXPECT_LT(std::count(replicas.since.begin(), replicas.since.end(), 0), testing::kRunLatents);
}

class EngineReplicas : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(
    All, EngineReplicas,
    ::testing::Values(
        RunVariant{"relu_l1", Penalised("relu_l1")}, RunVariant{"gated", Penalised("gated")},
        RunVariant{"jumprelu", Penalised("jumprelu")},
        RunVariant{"jumprelu_tanh", Penalised("jumprelu",
                                              [](auto& c) {
                                                c.sae.penalty = "tanh";
                                                c.sae.bandwidth = 0.02;
                                              })},
        RunVariant{"topk", Ranked("topk", 0)},
        RunVariant{"topk_multi", Ranked("topk", 0, [](auto& c) { c.sae.multi_topk = true; })},
        RunVariant{"topk_mean", Ranked("topk", 0, [](auto& c) { c.sae.loss = "mean"; })},
        RunVariant{"skip_transcoder",
                   Ranked("topk", 0,
                          [](auto& c) {
                            c.sae.transcoder = true;
                            c.sae.skip = true;
                          }),
                   9}),
    testing::NameOf);

// Properties 11 and 34.
TEST_P(EngineReplicas, MeanGradientsAndLeastCountersAreThoseOfTheWholeBatch) {
  const RunVariant& variant = GetParam();
  const std::vector<float> rows =
      testing::BatchesOf(ReplicaConfig(variant, 1), variant.d_out, 1)[0];
  const SavedState start = StartOf(variant, rows);
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  const auto whole = Stepped(variant, 1, 0, start, rows, *self, pool);
  ASSERT_TRUE(whole.ok()) << whole.status();
  SavedState end;
  Save((*whole)->state(), &end);
  for (const std::int64_t replicas : {1, 2, 4}) {
    SCOPED_TRACE(replicas);
    ExpectWhole(SummedInALoop(variant, replicas, start, rows), end);
    ExpectWhole(ReducedByACommunicator(variant, replicas, start, rows), end);
  }
}

// Property 11: not so where the batch itself selects.
TEST(EngineReplicasOfBatchTopK, SelectByTheirOwnBatchAndDiffer) {
  const RunVariant variant{"batchtopk", Ranked("batchtopk", 0)};
  const std::vector<float> rows =
      testing::BatchesOf(ReplicaConfig(variant, 1), variant.d_out, 1)[0];
  const SavedState start = StartOf(variant, rows);
  const Gradients one = SummedInALoop(variant, 1, start, rows);
  EXPECT_NE(one.mean.at("W_enc.adam_m"),
            SummedInALoop(variant, 4, start, rows).mean.at("W_enc.adam_m"));
}

}  // namespace
}  // namespace sae::train
