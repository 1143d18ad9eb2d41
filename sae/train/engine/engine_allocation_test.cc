// What a step costs in memory: nothing new once its buffers have grown, and buffers that hardly
// grow with the dictionary. Replaces operator new, so it is a program of its own.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <malloc.h>
#include <new>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_runs.h"

namespace {

// A screen's products go through oneDNN, which allocates small things on each call.
constexpr std::size_t kLarge = 1024;
std::atomic<std::int64_t> allocations{0};
std::atomic<std::int64_t> large{0};
std::atomic<std::int64_t> live{0};
std::atomic<std::int64_t> peak{0};

void* Allocate(std::size_t size, std::size_t alignment) {
  void* p = alignment > alignof(std::max_align_t)
                ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                : std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) throw std::bad_alloc();
  ++allocations;
  if (size >= kLarge) ++large;
  const std::int64_t now = live += static_cast<std::int64_t>(malloc_usable_size(p));
  std::int64_t seen = peak;
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
  return p;
}

void Free(void* p) {
  live -= static_cast<std::int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

// Not inlined: gcc with the sanitizers' flags would see free() meet a pointer of new, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) { return Allocate(size, 0); }
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* p) noexcept { Free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { Free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { Free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { Free(p); }

namespace sae::train {
namespace {

using testing::Penalised;
using testing::Ranked;
using testing::RunVariant;

// Steps 15 to 24 of a run of 100, between two resamplings, on the same rows and at a vanishing
// rate, so that capacities have settled.
std::int64_t AllocationsOfLaterSteps(const RunVariant& variant, const char* reduction,
                                     double dense_density) {
  config::TrialConfig config = testing::ConfigOf(variant);
  config.train.lr = 1e-7;
  if (config.sae.architecture == "jumprelu") config.sae.threshold_lr = 1e-7;
  config.train.reduction = reduction;
  const std::vector<float> rows = testing::BatchesOf(config, variant.d_out, 1)[0];
  const auto self = comm::CreateSelf();
  ThreadPool pool(2);
  auto engine = CreateEngine<float>(config, testing::kRunWidth, variant.d_out, *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->Initialise(rows).ok());
  (*engine)->set_dense_density(dense_density);
  bool ok = true;
  for (int t = 0; t < 14; ++t) ok = (*engine)->Step(rows).ok() && ok;
  const bool certified = config.train.selection == "certified";
  const std::int64_t before = certified ? large : allocations;
  for (int t = 0; t < 10; ++t) ok = (*engine)->Step(rows).ok() && ok;
  const std::int64_t after = certified ? large : allocations;
  EXPECT_TRUE(ok);
  return after - before;
}

class EngineAllocation : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineAllocation, ::testing::ValuesIn(testing::AllVariants()),
                         testing::NameOf);

TEST_P(EngineAllocation, StepsInPlace) {
  EXPECT_EQ(AllocationsOfLaterSteps(GetParam(), "fast", 2), 0);
}

class EngineAllocationFixed : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineAllocationFixed,
                         ::testing::ValuesIn(testing::Float32Variants()), testing::NameOf);

TEST_P(EngineAllocationFixed, StepsInPlace) {
  EXPECT_EQ(AllocationsOfLaterSteps(GetParam(), "fixed", 2), 0);
}

// Columns by blocks of 8: targets of another width than the run's inputs.
TEST(EngineAllocationColumns, StepsInPlace) {
  const auto columns = [](auto& c) {
    c.sae.transcoder = true;
    c.train.decoder_layout = "columns";
  };
  for (const RunVariant& variant :
       {RunVariant{"topk", Ranked("topk", 8, columns), 16},
        RunVariant{"matryoshka", Ranked("matryoshka", 8, columns), 16},
        RunVariant{"gated", Penalised("gated", columns), 16}}) {
    EXPECT_EQ(AllocationsOfLaterSteps(variant, "fast", 2), 0) << variant.name;
  }
}

TEST(EngineAllocationDense, ReluStepsInPlace) {
  EXPECT_EQ(AllocationsOfLaterSteps({"", Penalised("relu_l1")}, "fast", 0), 0);
}

// Two ranks: the in-process communicator's own small things aside.
TEST(EngineAllocationSharded, StepsInPlace) {
  for (const RunVariant& variant : testing::Float32Variants()) {
    const std::string name = variant.name;
    if (!name.starts_with("topk") && !name.starts_with("batchtopk")) continue;
    config::TrialConfig config = testing::ConfigOf(variant, 2);
    config.train.lr = 1e-7;
    const std::vector<float> rows = testing::BatchesOf(config, variant.d_out, 1)[0];
    std::int64_t before = 0, after = 0;
    const absl::Status status = comm::RunInProcess(2, [&](comm::Communicator& c) -> absl::Status {
      ThreadPool pool(2);
      SAE_ASSIGN_OR_RETURN(auto engine, CreateEngine<float>(config, testing::kRunWidth,
                                                            variant.d_out, c, pool));
      SAE_RETURN_IF_ERROR(engine->Initialise(rows));
      for (int t = 0; t < 14; ++t) SAE_RETURN_IF_ERROR(engine->Step(rows));
      SAE_RETURN_IF_ERROR(c.Barrier());
      if (c.rank() == 0) before = large;
      SAE_RETURN_IF_ERROR(c.Barrier());
      for (int t = 0; t < 10; ++t) SAE_RETURN_IF_ERROR(engine->Step(rows));
      SAE_RETURN_IF_ERROR(c.Barrier());
      if (c.rank() == 0) after = large;
      return c.Barrier();
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(after - before, 0) << name;
  }
}

TEST(EngineAllocationMoments, StepsInPlace) {
  for (const char* moments : {"bf16", "int8"}) {
    const auto reduced = [=](auto& c) { c.train.moments = moments; };
    EXPECT_EQ(AllocationsOfLaterSteps({"", Ranked("topk", 8, reduced)}, "fixed", 2), 0);
    EXPECT_EQ(AllocationsOfLaterSteps({"", Penalised("relu_l1", reduced)}, "fast", 2), 0);
    EXPECT_EQ(AllocationsOfLaterSteps({"", Penalised("relu_l1", reduced)}, "fast", 0), 0);
  }
}

constexpr std::int64_t kWidth = 64;
constexpr std::int64_t kBatch = 1024;
constexpr std::int64_t kL0 = 32;

// The value that kL0 of `latents` pre-activations of a token exceed in the mean, from 64 tokens.
float CutOf(const model::State& state, const std::vector<float>& rows, double scale) {
  const auto* w = static_cast<const float*>(state.tensors[0].data);
  constexpr std::int64_t kTokens = 64;
  std::vector<float> z;
  for (std::int64_t b = 0; b < kTokens; ++b) {
    for (std::int64_t i = 0; i < state.shard.count; ++i) {
      float sum = 0;
      for (std::int64_t j = 0; j < kWidth; ++j)
        sum += w[i * kWidth + j] * rows[static_cast<std::size_t>(b * kWidth + j)];
      z.push_back(sum / static_cast<float>(scale));
    }
  }
  const auto cut = z.begin() + kTokens * kL0;
  std::nth_element(z.begin(), cut, z.end(), std::greater<>());
  return *cut;
}

template <class V>
V* ScalarOf(const model::State& state, const std::string& name) {
  for (const model::StateScalar& s : state.scalars) {
    if (s.name == name) return *std::get_if<V*>(&s.value);
  }
  return nullptr;
}

struct Memory {
  std::int64_t buffers = 0;  // peak without parameters and what a checkpoint keeps of the optimizer
  double l0 = 0;
};

Memory MemoryOf(const RunVariant& variant, std::int64_t latents) {
  config::TrialConfig config = testing::TopKConfig(latents, kL0, kBatch);
  variant.set(config);
  if (config.sae.architecture == "jumprelu") {
    config.sae.target_l0 = kL0;
    config.sae.l0_coefficient = 1e-3;
  }
  config.train.lr = 1e-6;
  testing::SparseData data(256, kWidth, 8, 3);
  const std::vector<float> rows = data.Rows(kBatch);
  const auto self = comm::CreateSelf();
  ThreadPool pool(2);
  const std::int64_t before = live;
  peak = before;
  auto engine = CreateEngine<float>(config, kWidth, *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->Initialise(rows).ok());
  std::int64_t most = peak, kept = 0;
  {
    const model::State state = (*engine)->state();
    if (config.sae.architecture == "relu_l1" || config.sae.architecture == "gated") {
      const float cut = CutOf(state, rows, *ScalarOf<double>(state, "input_scale"));
      for (const model::StateTensor& t : state.tensors) {
        if (t.name == "b_enc") std::fill_n(static_cast<float*>(t.data), latents, -cut);
      }
      *ScalarOf<std::int64_t>(state, "last_active") = kBatch * kL0;
    }
    for (const model::StateTensor& t : state.tensors) {
      kept += testing::RowBytes(t) * (t.per_latent ? latents : 1);
    }
  }
  peak = live.load();
  for (int t = 0; t < 3; ++t) EXPECT_TRUE((*engine)->Step(rows).ok());
  most = std::max<std::int64_t>(most, peak);
  return {most - before - kept, (*engine)->LastMetrics()->at("train.l0")};
}

class EngineMemory : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, EngineMemory,
                         ::testing::Values(RunVariant{"topk", Ranked("topk", 0)},
                                           RunVariant{"topk_aux",
                                                      Ranked("topk", 32,
                                                             [](auto& c) {
                                                               c.sae.dead_after_tokens =
                                                                   1;  // all but the winners
                                                             })},
                                           RunVariant{"batchtopk", Ranked("batchtopk", 0)},
                                           RunVariant{"matryoshka", Ranked("matryoshka", 0)},
                                           RunVariant{"jumprelu", Penalised("jumprelu")},
                                           RunVariant{"relu_l1", Penalised("relu_l1")},
                                           RunVariant{"gated", Penalised("gated")}),
                         testing::NameOf);

// A batch x latents matrix would be ten times this.
TEST_P(EngineMemory, GrowsByLessThanATenthOfABatchTimesLatentsMatrix) {
  constexpr std::int64_t kLatents = 1024;
  const Memory small = MemoryOf(GetParam(), kLatents), large = MemoryOf(GetParam(), 8 * kLatents);
  const double bound = 0.1 * kBatch * 7 * kLatents * 4;
  std::printf("%s: %.2f MB at n = %ld, %.2f MB at 8 n (may grow by %.2f); l0 %.1f and %.1f\n",
              GetParam().name, static_cast<double>(small.buffers) / 1e6,
              static_cast<long>(kLatents), static_cast<double>(large.buffers) / 1e6, bound / 1e6,
              small.l0, large.l0);
  EXPECT_LT(static_cast<double>(large.buffers - small.buffers), bound);
  EXPECT_GT(small.buffers, kBatch * kWidth * 4);  // it does measure: a batch is held
  for (const double l0 : {small.l0, large.l0}) {
    EXPECT_GT(l0, kL0 / 4);
    EXPECT_LT(l0, kL0 * 4);
  }
}

}  // namespace
}  // namespace sae::train
