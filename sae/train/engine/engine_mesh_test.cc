// Replicas x latent shards against one rank, float64: whole runs of every architecture, and resumes
// at another mesh.
#include <cmath>
#include <utility>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;
using testing::SavedState;

constexpr std::int64_t kSteps = 14;
constexpr double kTolerance = 1e-9;

struct MeshShape {
  std::int64_t replicas, shards;
};
constexpr MeshShape kMeshes[] = {{2, 1}, {1, 2}, {2, 2}, {4, 1}};

std::vector<RunVariant> Variants() {
  std::vector<RunVariant> out = testing::Float32Variants();
  std::erase_if(out, [](const RunVariant& v) { return std::string(v.name) == "topk_deferred"; });
  out.push_back({"jumprelu_frequency", testing::Penalised("jumprelu", [](auto& c) {
                   c.sae.frequency_coefficient = 0.3;
                   c.sae.threshold_init = 0.05;
                 })});
  return out;
}

RunRequest Request(const RunVariant& variant, MeshShape mesh) {
  RunRequest r;
  r.config = testing::ConfigOf(variant, mesh.replicas * mesh.shards);
  r.config.train.replicas = mesh.replicas;
  r.d_out = variant.d_out;
  r.batches = testing::BatchesOf(r.config, r.d_out, kSteps);
  r.selections = true;
  return r;
}

void ExpectNear(const SavedState& a, const SavedState& b) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, bytes] : a.tensors) {
    if (name == "tokens_since_fired") {
      EXPECT_EQ(bytes, b.tensors.at(name));
      continue;
    }
    const std::vector<double> x = testing::Doubles(a, name), y = testing::Doubles(b, name);
    ASSERT_EQ(x.size(), y.size()) << name;
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x[i] - y[i]));
    EXPECT_LT(worst, kTolerance) << name;
  }
  EXPECT_EQ(a.integers, b.integers);
  for (const auto& [name, value] : a.doubles)
    EXPECT_NEAR(value, b.doubles.at(name), kTolerance * (1 + std::abs(value))) << name;
}

void ExpectSameRun(const RunOutcome& one, const RunOutcome& many, std::size_t from = 0) {
  ExpectNear(one.end, many.end);
  EXPECT_EQ(
      std::vector(one.selections.begin() + static_cast<std::ptrdiff_t>(from), one.selections.end()),
      many.selections);
  for (std::size_t t = 0; t < many.losses.size(); ++t) {
    EXPECT_NEAR(many.losses[t] / one.losses[from + t], 1, kTolerance) << t;
    EXPECT_EQ(many.l0[t], one.l0[from + t]) << t;
  }
  for (const auto& [name, value] : one.heldout)
    EXPECT_NEAR(many.heldout.at(name), value, 10 * kTolerance * (1 + std::abs(value))) << name;
}

class EngineMesh : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineMesh, ::testing::ValuesIn(Variants()), testing::NameOf);

TEST_P(EngineMesh, EveryMeshIsTheRunOfOneRank) {
  const RunOutcome one = testing::Run<double>(Request(GetParam(), {1, 1}));
  ASSERT_EQ(one.losses.size(), static_cast<std::size_t>(kSteps));
  for (const MeshShape mesh : kMeshes) {
    SCOPED_TRACE(::testing::Message() << mesh.replicas << " x " << mesh.shards);
    ExpectSameRun(one, testing::Run<double>(Request(GetParam(), mesh)));
  }
}

TEST_P(EngineMesh, ResumesAtAnotherMesh) {
  constexpr std::int64_t kCut = 6;
  const RunOutcome one = testing::Run<double>(Request(GetParam(), {1, 1}));
  for (const auto& [from, to] :
       {std::pair<MeshShape, MeshShape>{{2, 2}, {1, 2}}, {{1, 1}, {4, 1}}, {{4, 1}, {2, 2}}}) {
    RunRequest first = Request(GetParam(), from);
    first.save_before = {kCut};
    const RunOutcome whole = testing::Run<double>(first);
    RunRequest second = Request(GetParam(), to);
    second.start = &whole.before.at(kCut);
    second.first = kCut;
    SCOPED_TRACE(::testing::Message() << from.replicas << " x " << from.shards << " to "
                                      << to.replicas << " x " << to.shards);
    ExpectSameRun(one, testing::Run<double>(second), kCut);
  }
}

// A replica given only its part of the batch does what it does with the whole; metrics and
// evaluations, of a batch that does not divide too, are those of all rows.
TEST(EngineMeshParts, AReplicaNeedsOnlyItsRows) {
  const RunVariant variant{"", testing::Ranked("batchtopk", 8)};
  const auto run = [&](MeshShape mesh, bool parts) {
    const RunRequest r = Request(variant, mesh);
    std::map<std::string, double> out;
    const absl::Status status = comm::RunInProcess(
        static_cast<int>(r.config.ranks), [&](comm::Communicator& c) -> absl::Status {
          ThreadPool pool(1);
          SAE_ASSIGN_OR_RETURN(auto engine,
                               CreateEngine<double>(r.config, testing::kRunWidth, c, pool));
          EXPECT_EQ(engine->replicas(), mesh.replicas);
          EXPECT_EQ(engine->replica(), c.rank() / mesh.shards);
          SAE_RETURN_IF_ERROR(engine->Initialise(r.batches[0]));
          // Before the first step BatchTopK's cut is that of the batch: over all replicas.
          std::map<std::string, double> values;
          const auto evaluate = [&](const std::string& prefix, std::size_t rows) -> absl::Status {
            engine->BeginEvaluation(std::vector<float>(testing::kRunWidth, 0.4F));
            SAE_RETURN_IF_ERROR(
                engine->EvaluateBatch(std::span(r.batches[1]).first(rows * testing::kRunWidth)));
            SAE_ASSIGN_OR_RETURN(const auto held, engine->FinishEvaluation());
            for (const auto& [name, value] : held) values[prefix + name] = value;
            return absl::OkStatus();
          };
          SAE_RETURN_IF_ERROR(evaluate("before.", 32));
          for (const auto& batch : r.batches) {
            std::span<const float> rows = batch;
            const std::size_t part = rows.size() / static_cast<std::size_t>(mesh.replicas);
            if (parts)
              rows = rows.subspan(part * static_cast<std::size_t>(engine->replica()), part);
            SAE_RETURN_IF_ERROR(engine->Step(rows));
          }
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          for (const auto& [name, value] : metrics) {
            if (!name.starts_with("ms.") && !name.starts_with("bytes.")) values[name] = value;
          }
          SAE_RETURN_IF_ERROR(evaluate("seven.", 7));
          SAE_RETURN_IF_ERROR(evaluate("one.", 1));
          if (c.rank() == 0) out = values;
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    return out;
  };
  const auto one = run({1, 1}, false);
  ASSERT_GT(one.size(), 20U);
  for (const bool parts : {false, true}) {
    const auto many = run({4, 1}, parts);
    for (const auto& [name, value] : one) {
      if (name == "non_gemm_share") continue;
      if (!std::isfinite(value)) {
        EXPECT_EQ(std::to_string(many.at(name)), std::to_string(value)) << name;
      } else {
        EXPECT_NEAR(many.at(name), value, 10 * kTolerance * (1 + std::abs(value))) << name;
      }
    }
  }
}

// Moments lie with the owner alone.
TEST(EngineMeshMemory, ARankKeepsTheMomentsOfItsOwnLatents) {
  const RunVariant variant{"", testing::Ranked("topk", 0)};
  const absl::Status status = comm::RunInProcess(4, [&](comm::Communicator& c) -> absl::Status {
    ThreadPool pool(1);
    const RunRequest r = Request(variant, {2, 2});
    SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<double>(r.config, testing::kRunWidth, c, pool));
    const model::State s = engine->state();
    const std::int64_t shard = c.rank() % 2, replica = c.rank() / 2;
    const model::LatentShard whole =
        model::ShardOf(testing::kRunLatents, 2, static_cast<int>(shard));
    EXPECT_EQ(s.shard.count, testing::kRunLatents / 4);
    for (std::int64_t i = 0; i < s.shard.count; ++i)
      EXPECT_EQ(s.shard.Global(i), whole.Global(replica * s.shard.count + i));
    EXPECT_EQ(engine->owners()->rank(), shard * 2 + replica);
    for (const model::StateTensor& t : s.tensors) {
      if (!t.per_latent) continue;
      EXPECT_EQ(t.shape[0], s.shard.count) << t.name;
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace sae::train
