// What the dense step holds beside parameters and optimizer, at n and 8 n latents. Reads the C
// library's counters of memory, so it is part of a program that sanitizers leave out.
#include <cstdio>
#include <malloc.h>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing.h"

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 64;
constexpr std::int64_t kBatch = 4096;
constexpr std::int64_t kLatents = 1024;

std::int64_t Allocated() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<std::int64_t>(info.uordblks + info.hblkhd);
}

struct Held {
  std::int64_t gradients = 0;  // matrices of the parameters' shapes, made once
  std::int64_t rest = 0;
};

// After two dense steps, without what a checkpoint keeps.
Held HeldBy(const char* architecture, std::int64_t latents) {
  config::TrialConfig config = testing::ReluConfig(latents, 0.05, kBatch);
  config.sae.architecture = architecture;
  testing::SparseData data(256, kWidth, 8, 3);
  const std::vector<float> rows = data.Rows(kBatch);
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);  // the calling thread's products: its arena is the one that is counted
  const std::int64_t before = Allocated();
  auto engine = CreateEngine<float>(config, kWidth, *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->Initialise(std::span(rows).first(256 * kWidth)).ok());
  for (int t = 0; t < 2; ++t) {
    EXPECT_TRUE((*engine)->Step(rows).ok());
    EXPECT_EQ((*engine)->LastMetrics()->at("dense_step"), 1);
  }
  std::int64_t kept = 0;
  for (const model::StateTensor& t : (*engine)->state().tensors)
    kept += testing::RowBytes(t) * (t.per_latent ? latents : 1);
  Held held;
  held.gradients = latents * 2 * kWidth * 4;
  held.rest = Allocated() - before - kept - held.gradients;
  return held;
}

// A batch x latents matrix would be ten times the bound.
TEST(DenseStepMemory, GrowsByLessThanATenthOfABatchTimesLatentsMatrix) {
  const double bound = 0.1 * kBatch * 7 * kLatents * 4;
  for (const char* architecture : {"relu_l1", "gated"}) {
    (void)HeldBy(architecture, kLatents);  // libraries make their buffers
    const Held small = HeldBy(architecture, kLatents), large = HeldBy(architecture, 8 * kLatents);
    std::printf(
        "%s: gradient matrices %.2f and %.2f MB, the rest %.2f and %.2f MB; may grow by %.2f\n",
        architecture, static_cast<double>(small.gradients) / 1e6,
        static_cast<double>(large.gradients) / 1e6, static_cast<double>(small.rest) / 1e6,
        static_cast<double>(large.rest) / 1e6, bound / 1e6);
    EXPECT_LT(static_cast<double>(large.gradients + large.rest - small.gradients - small.rest),
              bound);
    // It does measure: a block of codes is held, of gated one of h too.
    EXPECT_GT(small.rest, (architecture[0] == 'g' ? 2 : 1) * 4 * (1 << 22));
  }
}

}  // namespace
}  // namespace sae::train
