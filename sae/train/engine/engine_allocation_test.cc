// A step allocates nothing of the size of its data once its buffers have grown. Replaces operator
// new, so it is a program of its own.
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing.h"

namespace {

// Closures of parallel loops are smaller than this, data of any step larger.
constexpr std::size_t kLarge = 1024;
std::atomic<bool> counting{false};
std::atomic<int> large{0};

void* Allocate(std::size_t size, std::size_t alignment) {
  if (counting && size >= kLarge) ++large;
  void* p = alignment > alignof(std::max_align_t)
                ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                : std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t size) { return Allocate(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace sae::train {
namespace {

constexpr std::int64_t kWidth = 32;
constexpr std::int64_t kBatch = 200;

int LargeAllocationsOfLaterSteps(const config::TrialConfig& config, double dense_density) {
  testing::SparseData data(64, kWidth, 4, 3);
  const std::vector<float> rows = data.Rows(kBatch);
  const auto self = comm::CreateSelf();
  ThreadPool pool(2);
  auto engine = CreateEngine<float>(config, kWidth, *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  EXPECT_TRUE((*engine)->Initialise(rows).ok());
  (*engine)->set_dense_density(dense_density);
  for (int t = 0; t < 6; ++t) EXPECT_TRUE((*engine)->Step(rows).ok());
  large = 0;
  counting = true;
  for (int t = 0; t < 10; ++t) EXPECT_TRUE((*engine)->Step(rows).ok());
  counting = false;
  return large;
}

TEST(EngineAllocation, TopKWithAuxKStepsInPlace) {
  config::TrialConfig config = testing::TopKConfig(512, 8, kBatch);
  config.sae.aux_k = 16;
  config.sae.dead_after_tokens = 1;  // most latents are dead: AuxK runs in every step
  config.train.lr = 1e-6;
  EXPECT_EQ(LargeAllocationsOfLaterSteps(config, 2), 0);
}

TEST(EngineAllocation, ReluStepsInPlaceOnBothPaths) {
  config::TrialConfig config = testing::ReluConfig(512, 0.1, kBatch);
  config.train.lr = 1e-6;
  EXPECT_EQ(LargeAllocationsOfLaterSteps(config, 2), 0);
  EXPECT_EQ(LargeAllocationsOfLaterSteps(config, 0), 0);
}

}  // namespace
}  // namespace sae::train
